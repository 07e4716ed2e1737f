"""Rows in JSON, CSV and Parquet: equal values in all formats, or an error with the remedy."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from slipway.errors import CorruptTable, Refused
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_jobs.data.table_file import ROWS_AT_ONCE, TableFile
from slipway_jobs.imports.rows import of_file

COLUMNS = {
    "age": Column(name="age", datatype=Datatype.FP32),
    "ca": Column(name="ca", datatype=Datatype.FP64, missing=True),
    "count": Column(name="count", datatype=Datatype.INT64),
    "flag": Column(name="flag", datatype=Datatype.BOOL),
    "job": Column(name="job", datatype=Datatype.BYTES),
    "pair": Column(name="pair", datatype=Datatype.FP32, shape=(2,)),
}
SIGNATURE = Signature(
    inputs=tuple(COLUMNS.values()), outputs=(Column(name="label", datatype=Datatype.INT64),)
)
ROW: dict[str, Any] = {
    "age": 63.0,
    "ca": 1.0,
    "count": 3,
    "flag": True,
    "job": "clerk",
    "pair": [1.0, 2.0],
}


def read(row: dict[str, Any], problem: str | None = None) -> dict[str, list[Any]] | str:
    """Return the values of the row's request, or its error."""
    if problem is not None:
        return problem
    try:
        return {tensor.name: tensor.data for tensor in SIGNATURE.request([row]).inputs}
    except InvalidInput as error:
        return str(error)


def of_json(row: dict[str, Any]) -> dict[str, list[Any]] | str:
    return read(json.loads(json.dumps(row)))


def of_csv(folder: Path, row: dict[str, str]) -> dict[str, list[Any]] | str:
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([row.keys(), row.values()])
    ((found,),) = (
        chunk.rows for chunk in TableFile(folder / "rows.csv", "csv", SIGNATURE).chunks()
    )
    return read(dict(found.values), found.problem)


def of_parquet(folder: Path, row: dict[str, Any]) -> dict[str, list[Any]] | str:
    columns = {
        name: value if isinstance(value, pa.Array) else pa.array([value])
        for name, value in row.items()
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    ((found,),) = (
        chunk.rows for chunk in TableFile(folder / "rows.parquet", "parquet", SIGNATURE).chunks()
    )
    return read(dict(found.values), found.problem)


def text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize(
    ("name", "as_json", "as_csv", "as_parquet", "expected"),
    [
        ("job", " Private", " Private", " Private", " Private"),
        ("job", "NA ", "NA ", b"NA ", "NA "),
        ("job", "", "", "", ""),
        ("job", "x", "x", pa.array(["x"]).dictionary_encode(), "x"),
        ("age", 63, "63", 63, 63),
        ("age", 63.5, " 63.5 ", Decimal("63.50"), 63.5),
        ("age", 0.5, "+.5e0", pa.array([0.5], pa.float16()), 0.5),
        ("ca", None, "", None, None),
        ("ca", None, " ", float("nan"), None),
        ("count", 3.0, "3.0", 3.0, 3),
        ("count", 300.0, "3e2", Decimal("300.00"), 300),
        ("count", 2**62 + 1, str(2**62 + 1), Decimal(2**62 + 1), 2**62 + 1),
        ("flag", True, "TRUE", True, True),
        ("flag", 0, "0", 0, False),
        ("pair", [1.0, 2.5], "[1.0, 2.5]", [Decimal("1.0"), Decimal("2.5")], [1.0, 2.5]),
    ],
)
def test_a_value_is_the_same_in_all_formats(
    tmp_path: Path, name: str, as_json: Any, as_csv: str, as_parquet: Any, expected: Any
) -> None:
    results = [
        of_json({**ROW, name: as_json}),
        of_csv(tmp_path, {**{key: text(value) for key, value in ROW.items()}, name: as_csv}),
        of_parquet(tmp_path, {**ROW, name: as_parquet}),
    ]
    for result in results:
        assert isinstance(result, dict), result
        values = expected if isinstance(expected, list) else [expected]
        assert [(type(value), value) for value in result[name]] == [
            (type(value), value) for value in values
        ]


@pytest.mark.parametrize(
    ("name", "written", "error"),
    [
        (
            "age",
            "2_86",
            "age: '2_86' is not FP32; write a point before decimals, and nothing between thousands",
        ),
        (
            "count",
            "2_86",
            (
                "count: '2_86' is not INT64; write a point before decimals, and nothing between "
                "thousands"
            ),
        ),
        (
            "age",
            "1,5",
            "age: '1,5' is not FP32; write a point before decimals, and nothing between thousands",
        ),
        (
            "age",
            "1.234,5",
            (
                "age: '1.234,5' is not FP32; write a point before decimals, and nothing between "
                "thousands"
            ),
        ),
        ("age", "٣", "age: '٣' is not FP32"),
        ("age", "inf", "age: 'inf' is not FP32"),
        ("age", "old", "age: 'old' is not FP32"),
        ("age", "NA", "age: 'NA' is not FP32; this value cannot be missing"),
        ("ca", "NA", "ca: 'NA' is not FP64; leave the field empty where the value is missing"),
        ("ca", "nan", "ca: 'nan' is not FP64; leave the field empty where the value is missing"),
        ("age", "", "age: value 0 is null (missing); FP32 is expected"),
        ("count", "3.5", "count: value 0 is 3.5 (float); INT64 is expected"),
        ("count", "9" * 5000, "count: value 0 is inf (float); INT64 is expected"),
        ("flag", "yes", "flag: 'yes' is not BOOL; write true or false"),
        ("pair", "1 2", "pair: '1 2' is not a JSON list of FP32; write it as [1, 2, 3]"),
        ("pair", "[NaN, 1]", "pair: '[NaN, 1]' is not a JSON list of FP32; write it as [1, 2, 3]"),
        ("pair", "[" * 100_000, "is not a JSON list of FP32; write it as [1, 2, 3]"),
    ],
)
def test_an_invalid_csv_field_has_an_error_with_the_remedy(
    tmp_path: Path, name: str, written: str, error: str
) -> None:
    answer = of_csv(tmp_path, {**{key: text(value) for key, value in ROW.items()}, name: written})
    assert isinstance(answer, str)
    assert answer.endswith(error)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("count", Decimal("3.50"), "count: value 0 is 3.5 (float); INT64 is expected"),
        ("job", b"\xff", "job: b'\\xff' is not text in UTF-8"),
        ("age", "63", "age: value 0 is '63' (str); FP32 is expected"),
        ("job", None, "job: value 0 is null (missing); BYTES is expected"),
    ],
)
def test_an_invalid_parquet_value_is_an_error_of_its_row(
    tmp_path: Path, name: str, value: Any, error: str
) -> None:
    assert of_parquet(tmp_path, {**ROW, name: value}) == error


def refused(path: Path, content: bytes, format: str = "csv") -> str:
    path.write_bytes(content)
    with pytest.raises(CorruptTable) as found:
        TableFile(path, format, SIGNATURE).count()
    return str(found.value)


HEAD = ",".join(ROW)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            f"sep=;\r\n{HEAD}\n",
            (
                "line 1 of the file is 'sep=;', which only Excel reads; delete it, and separate "
                "fields by a comma"
            ),
        ),
        (
            HEAD.replace(",", ";"),
            "the fields of the file are separated by semicolons; separate fields by a comma",
        ),
        (
            '"' + HEAD.replace(",", '"\t"') + '"\n',
            "the fields of the file are separated by tabs; separate fields by a comma",
        ),
        (f"\n{HEAD}\n", "the first line of the file is blank"),
        (
            HEAD.replace("age", " age"),
            "has no column age; it has  age, ca, count, flag, job, pair; rename ' age' to 'age'",
        ),
        (HEAD.replace("age", "Age"), "rename 'Age' to 'age'"),
        (f"{HEAD},age\n", "two columns of the file have the same name"),
        (HEAD.encode("utf-16"), "the file is not text in UTF-8; save it as CSV in UTF-8"),
    ],
)
def test_a_file_of_a_spreadsheet_that_is_not_csv_is_refused_with_the_remedy(
    tmp_path: Path, content: str | bytes, error: str
) -> None:
    assert error in refused(
        tmp_path / "rows.csv", content.encode() if isinstance(content, str) else content
    )


def test_a_parquet_column_of_a_type_without_json_equivalent_is_refused(tmp_path: Path) -> None:
    day = pa.array([0], pa.timestamp("ns"))
    pq.write_table(
        pa.table({**{name: pa.array([value]) for name, value in ROW.items()}, "age": day}),
        tmp_path / "made",
    )
    message = refused(tmp_path / "rows", (tmp_path / "made").read_bytes(), "parquet")
    assert message == "column age of the file is timestamp[ns], which is not FP32; write numbers"


def test_blank_lines_are_skipped_and_a_line_of_empty_fields_is_an_error(tmp_path: Path) -> None:
    line = 'NULL,63,1,3,true,clerk,"[1, 2]"'
    (tmp_path / "rows.csv").write_text(f"note,{HEAD}\n{line}\n\n{line}\n,,,,,,\n   \n\n")
    ((rows, others),) = (
        (chunk.rows, chunk.others)
        for chunk in TableFile(tmp_path / "rows.csv", "csv", SIGNATURE).chunks()
    )
    assert [row.problem for row in rows] == [
        None,
        None,
        "is blank: all of its fields are empty; delete the line",
    ]
    assert others.to_pydict() == {"note": ["NULL", "NULL", ""]}


def test_a_blank_field_of_the_only_column_is_a_value(tmp_path: Path) -> None:
    signature = Signature(inputs=(COLUMNS["ca"],), outputs=SIGNATURE.outputs)
    (tmp_path / "rows.csv").write_text('ca\n1\n""\n\n2\n')
    (chunk,) = TableFile(tmp_path / "rows.csv", "csv", signature).chunks()
    assert [row.values for row in chunk.rows] == [{"ca": 1}, {"ca": None}, {"ca": 2}]


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_chunks_are_independent_of_row_groups(tmp_path: Path, format: str) -> None:
    """Use a name with a dot, a path in Parquet: ``age.x`` is not part of ``age``."""
    signature = Signature(inputs=(COLUMNS["age"],), outputs=SIGNATURE.outputs)
    count = 2 * ROWS_AT_ONCE + 500
    table = pa.table({"age": range(count), "age.x": [f"id {number}" for number in range(count)]})
    path = tmp_path / "rows"
    if format == "parquet":
        pq.write_table(table, path, row_group_size=700)
    else:
        path.write_text(
            "age,age.x\n" + "".join(f"{number},id {number}\n" for number in range(count))
        )
    chunks = list(TableFile(path, format, signature).chunks())
    assert [len(chunk.rows) for chunk in chunks] == [ROWS_AT_ONCE, ROWS_AT_ONCE, 500]
    assert [row.values for chunk in chunks for row in chunk.rows] == [
        {"age": number} for number in range(count)
    ]
    assert pa.concat_tables([chunk.others for chunk in chunks]).to_pydict() == {
        "age.x": table["age.x"].to_pylist()
    }


@pytest.mark.parametrize(
    "content",
    ["x,y\n1.5,1\n", "x,y\n,1\n", 'x,y\n"1,5",1\n'],
    ids=["a fraction", "a missing value", "a decimal comma"],
)
def test_expected_outputs_that_are_no_values_of_the_datatype_are_not_rounded(
    tmp_path: Path, content: str
) -> None:
    x = Column(name="x", datatype=Datatype.INT64)
    signature = Signature(inputs=(x,), outputs=(Column(name="y", datatype=Datatype.FP32),))
    (tmp_path / "expected.csv").write_text(content)
    with pytest.raises(CorruptTable, match="x: "):
        of_file(tmp_path / "expected.csv", signature)
    np.savez(tmp_path / "expected.npz", x=[1.5], y=[1.0])
    with pytest.raises(Refused, match="x has numbers that are not integers; INT64 is expected"):
        of_file(tmp_path / "expected.npz", signature)
    (tmp_path / "expected.csv").write_text("x,y\n2.0,1\n")
    inputs, outputs = of_file(tmp_path / "expected.csv", signature)
    assert (inputs["x"].tolist(), outputs["y"].tolist()) == ([2], [1.0])
