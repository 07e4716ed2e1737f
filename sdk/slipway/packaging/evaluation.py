"""The evaluation table of a version: rows with their true outputs, and the scores on them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from slipway_contract.registry import digest_of
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, short

from slipway.errors import WrongParameter
from slipway.packaging.frames import frame_rows
from slipway.packaging.rows import Arrays
from slipway.training.metric import (
    ACCURACY,
    AUC,
    BRIER,
    LOG_LOSS,
    MACRO_F1,
    MAE,
    RMSE,
    Labels,
    Metric,
    Predictions,
)

FILE = "evaluation.parquet"
LABEL = "row.label"
"""The column of the true outputs."""


@dataclass(frozen=True)
class EvaluationTable:
    """Rows by input, and their true outputs [rows] or [rows, targets]."""

    signature: Signature
    rows: Arrays
    truth: NDArray[Any]

    @classmethod
    def of(cls, signature: Signature, frame: pd.DataFrame, truth: Any) -> Self:
        """Return the table of a data frame and its true outputs. Raises WrongParameter."""
        labels = np.asarray(truth)
        if labels.shape[1:] == (1,):
            labels = labels.ravel()
        if labels.ndim not in (1, 2) or len(labels) != len(frame):
            raise WrongParameter(
                f"evaluation: has {len(frame)} rows and true outputs of the shape "
                f"{list(labels.shape)}; give one true output for each row"
            )
        if pd.isna(labels.ravel()).any():
            raise WrongParameter(
                "evaluation: a true output is missing; leave out the rows without one"
            )
        if LABEL in frame.columns:
            raise WrongParameter(f"evaluation: the column name {LABEL!r} is reserved; rename it")
        return cls(signature, frame_rows(frame, signature.inputs), labels)

    def content(self) -> bytes:
        """Return the table as Parquet: inputs in their datatypes, null where missing, and truth."""
        columns = {column.name: _cells(column, self.rows) for column in self.signature.inputs}
        truth = self.truth if self.truth.ndim == 1 else list(self.truth)
        file = io.BytesIO()
        pd.DataFrame({**columns, LABEL: truth}).to_parquet(file, index=False)
        return file.getvalue()

    @property
    def digest(self) -> str:
        return digest_of(self.content())

    def scores(self, classes: Sequence[Any] | None, outputs: Arrays) -> dict[Metric, float]:
        """Return the scores of served outputs; of ``classes`` in order, or of a quantity.

        There are none of several quantities. Raises WrongParameter for an unknown class.
        """
        if classes is None:
            return self._of_quantity(outputs)
        truth = self._codes(classes)
        predictions = _probabilities(self.signature, classes, outputs)
        return _finite(_metrics(self.signature, classes, truth), truth, predictions)

    def _of_quantity(self, outputs: Arrays) -> dict[Metric, float]:
        column = self.signature.outputs[0]
        if column.shape:
            return {}
        values = outputs[column.name].astype(np.float64).ravel()
        return _finite((MAE, RMSE), self.truth.astype(np.float64), values)

    def _codes(self, classes: Sequence[Any]) -> Labels:
        known = {each: code for code, each in enumerate(np.asarray(classes).tolist())}
        for label in self.truth.tolist():
            if label not in known:
                raise WrongParameter(
                    f"evaluation: the true output {short(label)} is not one of the model's classes "
                    f"{', '.join(map(str, known))}; give labels as the model was fitted on"
                )
        return np.array([known[label] for label in self.truth.tolist()], dtype=np.int64)


def _cells(column: Column, rows: Arrays) -> Any:
    values = rows[column.name]
    if column.datatype is Datatype.BYTES and column.missing:
        return [text or None for text in values]
    return values


def _metrics(signature: Signature, classes: Sequence[Any], truth: Labels) -> Sequence[Metric]:
    if len(signature.outputs) == 1:  # a label without probabilities
        return (ACCURACY, MACRO_F1)
    if len(classes) > 2:
        return (ACCURACY, MACRO_F1, LOG_LOSS)
    ranked = (AUC,) if len(np.unique(truth)) == 2 else ()
    return (*ranked, LOG_LOSS, BRIER, ACCURACY)


def _probabilities(signature: Signature, classes: Sequence[Any], outputs: Arrays) -> Predictions:
    """Return the probabilities [rows, classes]; of a label without probabilities 0 and 1."""
    column = signature.outputs[-1]
    given = outputs[column.name]
    if column.shape:
        return given
    if len(signature.outputs) > 1:
        return np.stack([1 - given.ravel(), given.ravel()], axis=1)
    return np.asarray(given.reshape(-1, 1) == np.asarray(classes).reshape(1, -1), np.float64)


def _finite(
    metrics: Sequence[Metric], truth: Labels, predictions: Predictions
) -> dict[Metric, float]:
    found = {metric: metric.score(truth, predictions) for metric in metrics}
    return {metric: value for metric, value in found.items() if np.isfinite(value)}
