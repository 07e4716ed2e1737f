"""Signatures: conversion of rows to tensors and back; invalid values are rejected by name."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from slipway_contract.errors import InvalidInput, InvalidOutput
from slipway_contract.signature import Column, ImageSpec, Lookup, Signature
from slipway_contract.v2 import Datatype, Tensor, TensorMetadata

AGE = Column(name="age", datatype=Datatype.FP32, unit="a", minimum=0, maximum=120)
THAL = Column(
    name="thal",
    datatype=Datatype.FP32,
    codes={3: "normal", 6: "fixed defect", 7: "reversible defect"},
    missing=True,
)
PIXELS = Column(name="pixels", datatype=Datatype.FP32, shape=(4,), minimum=0, maximum=16)
LABEL = Column(name="label", datatype=Datatype.INT64)
PLAN = Column(name="plan", datatype=Datatype.BYTES, categories=("basic", "gold"), missing=True)
PATIENT = Signature(inputs=(AGE, THAL), outputs=(LABEL,))
IMAGE = Signature(
    inputs=(PIXELS,),
    outputs=(LABEL, Column(name="probabilities", datatype=Datatype.FP32, shape=(2,))),
)

patients = st.fixed_dictionaries(
    {"age": st.floats(0, 120), "thal": st.sampled_from([3.0, 6.0, 7.0, None])}
)


@given(st.lists(patients, min_size=1, max_size=5))
def test_rows_become_tensors_that_the_signature_accepts(rows: list[dict[str, Any]]) -> None:
    request = PATIENT.request(rows)
    assert PATIENT.check(request.inputs) == len(rows)
    assert [t.data for t in request.inputs] == [[r["age"] for r in rows], [r["thal"] for r in rows]]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"age": -5, "thal": 3}, "age: -5 is below the minimum 0 a"),
        ({"age": 130, "thal": 3}, "age: 130 is above the maximum 120 a"),
        ({"age": 50, "thal": 9}, "thal: 9 is not one of the codes 3, 6, 7 or null"),
        ({"age": None, "thal": 3}, r"age: value 0 is null \(missing\); FP32 is expected"),
        ({"age": float("nan"), "thal": 3}, "age: NaN and infinity are not accepted"),
        ({"age": float("inf"), "thal": 3}, "age: NaN and infinity"),
        ({"age": "50", "thal": 3}, r"age: value 0 is '50' \(str\)"),
        ({"age": 10**400, "thal": 3}, "age: value 0 is 1000"),
        ({"age": 50}, "thal: is missing from the inputs"),
        (
            {"age": 50, "thal": 3, "weight": 80},
            "weight: is not an input of this model; it takes age, thal",
        ),
    ],
)
def test_an_invalid_row_is_rejected_by_the_name_of_its_input(
    row: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidInput, match=f"^{expected}"):
        PATIENT.request([row])
    with pytest.raises(InvalidInput, match="in row 1"):
        PATIENT.request([{"age": 50, "thal": 3}, row])


def test_a_request_without_rows_is_rejected() -> None:
    with pytest.raises(InvalidInput, match="instances: is empty"):
        PATIENT.request([])


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([1, 2, 3], "pixels: has 3 values; 4 are expected"),
        (7, "pixels: must be a list of 4 values"),
        ([1, 2, 3, 17], "pixels: 17 is above"),
    ],
)
def test_a_vector_of_another_length_is_rejected(pixels: Any, expected: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{expected}"):
        IMAGE.request([{"pixels": pixels}])


def tensor(
    name: str, shape: list[int], data: list[Any], datatype: Datatype = Datatype.FP32
) -> Tensor:
    return Tensor(name=name, shape=shape, datatype=datatype, data=data)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([tensor("age", [1], [50.0])], "thal: is missing from the inputs"),
        (
            [tensor("age", [2], [50.0, 51.0]), tensor("thal", [1], [3.0])],
            "thal: has 1 rows, but age has 2",
        ),
        (
            [tensor("age", [1, 2], [50.0, 51.0]), tensor("thal", [1], [3.0])],
            r"age: shape \[1, 2\] does not fit; expected \[rows\]",
        ),
        ([tensor("age", [], [50.0]), tensor("thal", [1], [3.0])], r"age: shape \[\] does not fit"),
        ([tensor("age", [0], []), tensor("thal", [0], [])], "age: has no rows"),
        (
            [tensor("age", [1], [50], Datatype.INT8), tensor("thal", [1], [3.0])],
            "age: datatype INT8 does not fit; expected FP32",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_rejected(inputs: list[Tensor], expected: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{expected}"):
        PATIENT.check(inputs)


def test_a_scalar_column_may_come_as_a_column_vector() -> None:
    assert (
        PATIENT.check([tensor("age", [2, 1], [50.0, 51.0]), tensor("thal", [2], [3.0, None])]) == 2
    )


def test_an_unknown_output_is_rejected() -> None:
    with pytest.raises(InvalidInput, match="score: is not an output of this model; it gives label"):
        PATIENT.check_outputs(["label", "score"])


def answer(label: list[Any], scores: list[Any], rows: int = 2) -> list[Tensor]:
    return [
        Tensor.model_construct(name="label", shape=[rows], datatype=Datatype.INT64, data=label),
        Tensor.model_construct(name="scores", shape=[rows, 2], datatype=Datatype.FP32, data=scores),
    ]


BOUNDED = Signature(
    inputs=(PIXELS,),
    outputs=(
        Column(name="label", datatype=Datatype.INT64, codes={0: "no", 1: "yes"}),
        Column(name="scores", datatype=Datatype.FP32, shape=(2,), minimum=0, maximum=100),
    ),
)


def test_outputs_may_be_rounded_and_may_have_missing_values() -> None:
    BOUNDED.check_answer(answer([0, 1], [0, 100.0005, None, float("nan")]), rows=2)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            answer([0, 1, 0, 1], [0] * 8, rows=4),
            r"output 'label' has the shape \[4\] for 2 rows; \[2\] is expected",
        ),
        (answer([0, 1], [0, 0, 0]), r"output 'scores' has the shape \[2, 2\] for 2 rows"),
        (answer([0, 2], [0, 0, 0, 0]), "output 'label' is 2, which is not one of the codes 0, 1"),
        (
            answer([0, 0.5], [0, 0, 0, 0]),
            r"output 'label' value 1 is 0.5 \(float\); INT64 is expected",
        ),
        (
            answer([0, 1], [0, 0, 0, 100.1]),
            "output 'scores' is 100.1, which is above the maximum 100",
        ),
        (
            answer([0, 1], [0, 0, 0, float("inf")]),
            "output 'scores' is inf, which is above the maximum 100",
        ),
        (answer([0, 1], [0, 0, 0, -0.1]), "output 'scores' is -0.1, which is below the minimum 0"),
        (answer([0, 1], [0] * 4)[:1], "output 'scores' is missing from the answer"),
    ],
)
def test_outputs_that_the_signature_does_not_allow_are_rejected_by_name(
    given: list[Tensor], expected: str
) -> None:
    with pytest.raises(InvalidOutput, match=f"^{expected}"):
        BOUNDED.check_answer(given, rows=2)


def test_outputs_become_rows_in_order() -> None:
    outputs = [
        tensor("label", [2, 1], [1, 0], Datatype.INT64),
        tensor("probabilities", [2, 2], [0.1, 0.9, 0.8, 0.2]),
    ]
    assert IMAGE.rows(outputs) == [
        {"label": 1, "probabilities": [0.1, 0.9]},
        {"label": 0, "probabilities": [0.8, 0.2]},
    ]


@pytest.mark.parametrize("column", [AGE, THAL, PIXELS, LABEL, PLAN])
def test_a_column_survives_the_trip_through_v2_metadata(column: Column) -> None:
    assert Column.of_metadata(column.metadata) == column


def test_parameters_of_the_metadata_do_not_replace_its_fields() -> None:
    stated = AGE.metadata.model_copy(update={"parameters": AGE.model_dump(mode="json")})
    assert Column.of_metadata(stated) == AGE
    other = PLAN.model_dump(mode="json", include={"name", "datatype", "shape"})
    assert Column.of_metadata(AGE.metadata.model_copy(update={"parameters": other})).name == "age"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    shape=st.lists(st.integers(), max_size=4),
    parameters=st.dictionaries(
        st.sampled_from(sorted(Column.model_fields)) | st.text(max_size=5), ANYTHING
    ),
)
def test_metadata_of_any_server_is_a_column_or_a_validation_error(
    shape: list[int], parameters: dict[str, Any]
) -> None:
    tensor = TensorMetadata(
        name="x", datatype=Datatype.FP32, shape=shape, parameters={"name": "y", **parameters}
    )
    with suppress(ValidationError):
        assert Column.of_metadata(tensor).name == "x"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x", "datatype": "INT8", "missing": True},
        {"name": "x", "datatype": "BYTES", "minimum": 0},
        {"name": "x", "datatype": "INT8", "categories": ["a"]},
        {"name": "x", "datatype": "BYTES", "categories": ["a", "a"]},
        {"name": "x", "datatype": "BYTES", "categories": ["a", ""]},
        {"name": "x", "datatype": "FP32", "minimum": 2, "maximum": 1},
        {"name": "x", "datatype": "FP32", "shape": [-1]},
    ],
)
def test_an_inconsistent_column_is_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="x: "):
        Column.model_validate(wrong)


@pytest.mark.parametrize("value", ["basic", None, ""])
def test_a_text_may_be_a_category_or_missing(value: str | None) -> None:
    PLAN.check_values([value, "gold"])


def test_a_text_that_is_no_category_is_rejected_with_the_categories() -> None:
    with pytest.raises(InvalidInput, match=r"plan: 'silver' is not one of basic, gold or null"):
        PLAN.check_values(["silver"])


def test_a_text_that_must_not_be_missing_is_rejected() -> None:
    with pytest.raises(InvalidInput, match=r"plan: value 0 is null \(missing\); BYTES"):
        PLAN.model_copy(update={"missing": False}).check_values([None])


def test_an_output_that_is_no_category_is_rejected() -> None:
    tensor = Tensor(name="plan", shape=[1], datatype=Datatype.BYTES, data=["silver"])
    with pytest.raises(InvalidOutput, match="'silver', which is not one of basic, gold"):
        PLAN.check_output(tensor, 1)


def test_a_signature_without_categories_is_stored_as_before_there_were_categories() -> None:
    stored = PATIENT.model_dump_json(exclude_defaults=True)
    assert stored == (
        '{"inputs":[{"name":"age","datatype":"FP32","unit":"a","minimum":0.0,"maximum":120.0},'
        '{"name":"thal","datatype":"FP32","codes":{"3":"normal","6":"fixed defect",'
        '"7":"reversible defect"},"missing":true}],'
        '"outputs":[{"name":"label","datatype":"INT64"}]}'
    )


def test_names_must_be_unique() -> None:
    with pytest.raises(ValueError, match="not unique"):
        Signature(inputs=(AGE, AGE), outputs=(LABEL,))


def test_a_vector_may_name_the_class_of_each_value() -> None:
    column = Column(name="scores", datatype=Datatype.FP32, shape=(2,), classes=("cat", "dog"))
    assert Column.of_metadata(column.metadata) == column
    for shape in ((3,), (), (2, 1)):
        with pytest.raises(ValidationError, match="scores: 2 classes do not fit"):
            Column(name="scores", datatype=Datatype.FP32, shape=shape, classes=("cat", "dog"))


def test_an_image_must_fill_its_input() -> None:
    image = ImageSpec(width=4, height=2, mode="RGB", mean=(0.5, 0.4, 0.3), deviation=(0.2,))
    column = Column(name="image", datatype=Datatype.FP32, shape=(3, 2, 4), image=image)
    assert Column.of_metadata(column.metadata) == column
    with pytest.raises(ValidationError, match="an image of 24 values does not fit"):
        Column(name="image", datatype=Datatype.FP32, shape=(23,), image=image)
    with pytest.raises(ValidationError, match="an image of 24 values does not fit"):
        Column(name="image", datatype=Datatype.BYTES, shape=(24,), image=image)


def test_an_image_without_crop_and_filter_is_described_as_before_they_existed() -> None:
    described = {"width": 4, "height": 2, "fit": "cover"}
    image = ImageSpec.model_validate(described)
    assert (image.crop, image.resampling) == (1, "box")
    assert image.model_dump(exclude_defaults=True) == described


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"mean": (0.5, 0.5)}, "mean: 2 values for 3 channels"),
        ({"deviation": (0.0,)}, "deviation: must be positive"),
        ({"trim": True}, "trim: needs a ground"),
        ({"crop": 0.875}, "crop: needs the fit cover; it is stretch"),
        ({"crop": 0, "fit": "cover"}, "greater than 0"),
    ],
)
def test_an_inconsistent_image_is_rejected(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ImageSpec.model_validate({"width": 2, "height": 2, **given})


def test_a_text_may_have_a_maximum_length() -> None:
    column = Column(name="text", datatype=Datatype.BYTES, max_length=3)
    column.check_values(["añb", ""])
    column.check_values([])
    with pytest.raises(InvalidInput, match="text: has 4 characters; 3 are allowed"):
        column.check_values(["ab", "abcd"])
    with pytest.raises(ValidationError, match="only text has a length"):
        Column(name="age", datatype=Datatype.FP32, max_length=3)


PAIR = Lookup(features="sales-1", keys=("store", "product"))
MEAN = Column(name="mean", datatype=Datatype.FP32, missing=True, lookup=PAIR)


def test_the_metadata_has_the_lookup_of_a_column() -> None:
    read = Column.of_metadata(MEAN.metadata)
    assert read == MEAN
    assert Signature(inputs=(AGE, read), outputs=(LABEL,)).lookup == PAIR
    assert PATIENT.lookup is None


def test_an_inconsistent_lookup_is_rejected() -> None:
    other = Column(
        name="last",
        datatype=Datatype.FP32,
        lookup=Lookup(features="sales-2", keys=("store", "product")),
    )
    with pytest.raises(ValidationError, match="looked up in more than one way"):
        Signature(inputs=(MEAN, other), outputs=(LABEL,))
    with pytest.raises(ValidationError, match="store: is both an input and a lookup key"):
        Signature(inputs=(MEAN, AGE.model_copy(update={"name": "store"})), outputs=(LABEL,))
    with pytest.raises(ValidationError, match="only single values are looked up"):
        Column(name="curve", datatype=Datatype.FP32, shape=(2,), lookup=PAIR)
    with pytest.raises(ValidationError, match="names are empty or not unique: store, date, date"):
        Lookup(features="sales-1", keys=("store", "date"))
