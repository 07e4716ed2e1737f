"""The inputs of a model signature are inferred from data frames."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from slipway.errors import WrongParameter
from slipway.packaging.frames import as_frame, describe, frame_rows, infer_inputs
from slipway_contract.signature import Column
from slipway_contract.v2 import Datatype

from tests.sdk.churn import customers


def inferred(**columns: object) -> tuple[Column, ...]:
    return infer_inputs({"reference": pd.DataFrame(columns)})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.5, 2.0], {"datatype": "FP32", "description": "training: 1.5 to 2"}),
        (
            [1.5, np.nan],
            {"datatype": "FP32", "description": "training: 1.5 to 1.5", "missing": True},
        ),
        ([1_700_000_000.25, 1_700_000_001.5], {"datatype": "FP64"}),
        ([3, 7], {"datatype": "INT64", "description": "training: 3 to 7"}),
        (pd.array([3, None], dtype="Int64"), {"datatype": "FP64", "missing": True}),
        ([True, False], {"datatype": "BOOL"}),
        (
            pd.array([True, None], dtype="boolean"),
            {"datatype": "FP32", "codes": {0: "false", 1: "true"}, "missing": True},
        ),
        (["a", "b"], {"datatype": "BYTES"}),
        (["a", None], {"datatype": "BYTES", "missing": True}),
        (pd.Categorical(["a", "b"]), {"datatype": "BYTES", "categories": ("a", "b")}),
        (
            pd.Categorical(["a", None]),
            {"datatype": "BYTES", "categories": ("a",), "missing": True},
        ),
        (pd.Categorical([3, 7]), {"datatype": "INT64", "codes": {3: "3", 7: "7"}}),
        ([np.nan, np.nan], {"datatype": "FP32", "missing": True}),
    ],
)
def test_a_column_has_the_datatype_of_its_values(
    values: object, expected: dict[str, object]
) -> None:
    (column,) = inferred(x=values)
    found = {key: getattr(column, key) for key in expected}
    assert found == expected
    assert column.missing == expected.get("missing", False)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            [1, "a"],
            r"x: has values of the types int, str; one type is expected: write frame\['x'\]",
        ),
        ([1.0, np.inf], "x: has infinite values.*replace them"),
        ([None, None], "x: has no value; leave the column out"),
        (pd.to_datetime(["2026-01-01"]), "x: has the type datetime64.*derive numbers"),
        (pd.Series([1, 2], dtype=object), r"x: has numbers as object.*pandas.to_numeric"),
        ([2**63], "x: has 9223372036854775808, which does not fit INT64"),
        (["", None], "x: has missing values and empty texts.*replace"),
        (pd.Categorical([1.5, 2.5]), "x: has categories of the type float64"),
    ],
)
def test_a_column_that_cannot_be_an_input_is_refused_with_the_remedy(
    values: object, problem: str
) -> None:
    with pytest.raises(WrongParameter, match=f"reference: {problem}"):
        inferred(x=values)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: [1, 2], "example: is a list; give a pandas.DataFrame"),
        (lambda: pd.DataFrame({"a": []}), "example: has no rows"),
        (lambda: pd.DataFrame([[1]]), "example: the column name 0 is not a text; rename"),
        (
            lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
            "example: the column 'a' occurs twice",
        ),
    ],
)
def test_a_table_that_is_no_data_frame_of_named_columns_is_refused(
    make: Callable[[], object], problem: str
) -> None:
    with pytest.raises(WrongParameter, match=problem):
        as_frame(make(), "example")


def test_a_value_is_optional_when_any_of_the_frames_has_a_missing_one() -> None:
    whole, gap = pd.DataFrame({"x": [1.0]}), pd.DataFrame({"x": [np.nan]})
    (column,) = infer_inputs({"reference": whole, "evaluation": gap})
    assert column.missing


def test_frames_with_other_columns_are_refused() -> None:
    frames = {"reference": pd.DataFrame({"x": [1.0]}), "example": pd.DataFrame({"y": [1.0]})}
    with pytest.raises(WrongParameter, match="example: the column 'x' is in only one of"):
        infer_inputs(frames)


def test_missing_values_are_nan_and_the_empty_text() -> None:
    table, _ = customers(10)
    inputs = infer_inputs({"reference": table})
    rows = frame_rows(table, inputs)
    assert np.isnan(rows["monthly fee"][0])
    assert (rows["city"][0], str(rows["plan"].dtype)) == ("", "object")
    assert {name: array.dtype.str.lstrip("|") for name, array in rows.items()} == {
        column.name: Datatype(column.datatype).dtype for column in inputs
    } | {"active": "b1", "city": "O", "channel": "O", "note": "O", "plan": "O"}


def test_the_description_has_one_line_for_each_column() -> None:
    table, _ = customers(10)
    inputs = infer_inputs({"reference": table})
    lines = describe(inputs, (Column(name="label", datatype=Datatype.BYTES),)).splitlines()
    assert len(lines) == len(table.columns) + 1
    assert lines[6].split() == ["input", "plan", "category:", "basic,", "gold"]
    assert lines[3].endswith("text (BYTES); may be missing")
