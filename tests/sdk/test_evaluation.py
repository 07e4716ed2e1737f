"""The scores of an evaluation table: by the roles of the outputs, not by their order."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from slipway.errors import WrongParameter
from slipway.packaging.evaluation import EvaluationTable, classes_of
from slipway.packaging.frames import frame_rows
from slipway.training.metric import ACCURACY, AUC, LOG_LOSS
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

ROWS = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
TRUTH = np.array([0, 0, 1, 1])
PROBABILITY = np.array([0.1, 0.4, 0.35, 0.8], np.float32)
X = Column(name="x", datatype=Datatype.FP32)
LABEL = Column(name="label", datatype=Datatype.INT64, codes={1: "yes", 0: "no"})
P = Column(name="probability", datatype=Datatype.FP32)
OUTPUTS = {"label": np.array([0, 0, 0, 1]), "probability": PROBABILITY}


def table(*outputs: Column, truth: Any = TRUTH) -> EvaluationTable:
    return EvaluationTable.of(Signature(inputs=(X,), outputs=outputs), ROWS, truth)


@pytest.mark.parametrize("outputs", [(LABEL, P), (P, LABEL)])
def test_scores_do_not_depend_on_the_order_of_codes_and_outputs(outputs: tuple[Column]) -> None:
    found = table(*outputs).scores(OUTPUTS)
    assert found[AUC] == 0.75
    assert found[ACCURACY] == 0.75
    assert found[LOG_LOSS] == pytest.approx(0.4719, abs=1e-3)


def test_accuracy_is_that_of_the_served_label() -> None:
    low_threshold = {**OUTPUTS, "label": np.array([0, 1, 1, 1])}
    assert table(LABEL, P).scores(low_threshold)[ACCURACY] == 0.75
    assert table(LABEL, P).scores({**OUTPUTS, "label": TRUTH})[ACCURACY] == 1


def test_texts_are_classes_in_the_order_of_scikit_learn() -> None:
    label = Column(name="label", datatype=Datatype.BYTES, categories=("stays", "leaves"))
    assert classes_of(Signature(inputs=(X,), outputs=(label, P))) == ["leaves", "stays"]


@pytest.mark.parametrize(
    "outputs",
    [
        (P,),
        (Column(name="label", datatype=Datatype.INT64), P),
        (Column(name="label", datatype=Datatype.BYTES),),
    ],
)
def test_classes_without_codes_or_categories_are_unknown(outputs: tuple[Column]) -> None:
    with pytest.raises(WrongParameter, match="has no codes or categories"):
        classes_of(Signature(inputs=(X,), outputs=outputs))


def test_a_text_is_no_true_value_of_a_quantity() -> None:
    value = Column(name="value", datatype=Datatype.FP32)
    with pytest.raises(WrongParameter, match="'many' is not a number"):
        _ = table(value, truth=np.array(["many"] * 4)).labels


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        (Datatype.INT64, [1.7, 2.9]),
        (Datatype.UINT8, [300, 1]),
        (Datatype.BOOL, ["no", "yes"]),
        (Datatype.BOOL, [0.3, 1.0]),
        (Datatype.BYTES, [1, 2]),
        (Datatype.FP32, ["x", "y"]),
    ],
)
def test_a_value_that_a_datatype_would_change_is_rejected(
    datatype: Datatype, values: list[Any]
) -> None:
    with pytest.raises(WrongParameter, match=f"x: does not fit {datatype}"):
        frame_rows(pd.DataFrame({"x": values}), (Column(name="x", datatype=datatype),))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(WrongParameter, match="x: is not a column of the rows"):
        frame_rows(pd.DataFrame({"y": [1.0]}), (X,))


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        (Datatype.INT64, [1.0, 2.0], [1, 2]),
        (Datatype.INT64, pd.array([1, 2], dtype="Int64"), [1, 2]),
        (Datatype.BOOL, [True, False], [True, False]),
        (Datatype.BOOL, [1, 0], [True, False]),
        (Datatype.FP64, pd.Categorical([1, 2]), [1.0, 2.0]),
    ],
)
def test_values_that_a_datatype_has_are_accepted(
    datatype: Datatype, values: Any, expected: list[Any]
) -> None:
    found = frame_rows(pd.DataFrame({"x": values}), (Column(name="x", datatype=datatype),))
    assert found["x"].tolist() == expected
