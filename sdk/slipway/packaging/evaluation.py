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

    @classmethod
    def read(cls, content: bytes, signature: Signature) -> Self:
        """Return a stored table as rows of a signature. Raises WrongParameter if it has no such."""
        frame = pd.read_parquet(io.BytesIO(content))
        truth = frame.pop(LABEL)
        for column in signature.inputs:
            if column.name not in frame.columns:
                raise WrongParameter(f"the evaluation table has no column {column.name!r}")
            if not column.missing and frame[column.name].isna().any():
                raise WrongParameter(
                    f"the evaluation table has rows without {column.name!r}, which is required"
                )
        return cls.of(signature, frame, np.stack(truth.tolist()))

    def scores(self, classes: Sequence[Any] | None, outputs: Arrays) -> dict[Metric, float]:
        """Return the scores of served outputs; of ``classes`` in order, or of a quantity.

        There are none of several quantities. Raises WrongParameter for an unknown class.
        """
        truth, predictions = self.labels(classes), self.predictions(classes, outputs)
        found = {m: m.score(truth, predictions) for m in self.metrics(classes)}
        return {metric: value for metric, value in found.items() if np.isfinite(value)}

    def metrics(self, classes: Sequence[Any] | None) -> Sequence[Metric]:
        """Return the metrics of classes, or of a quantity; none of several quantities."""
        outputs = self.signature.outputs
        if classes is None:
            return () if outputs[0].shape else (MAE, RMSE)
        if len(outputs) == 1:  # a label without probabilities
            return (ACCURACY, MACRO_F1)
        if len(classes) > 2:
            return (ACCURACY, MACRO_F1, LOG_LOSS)
        ranked = (AUC,) if len(np.unique(self.labels(classes))) == 2 else ()
        return (*ranked, LOG_LOSS, BRIER, ACCURACY)

    def labels(self, classes: Sequence[Any] | None) -> Labels:
        """Return the true outputs [rows]: positions in ``classes`` INT64, or quantities FP64.

        Raises WrongParameter for an unknown class.
        """
        if classes is None:
            return self.truth.astype(np.float64)
        known = {each: code for code, each in enumerate(np.asarray(classes).tolist())}
        for label in self.truth.tolist():
            if label not in known:
                raise WrongParameter(
                    f"evaluation: the true output {short(label)} is not one of the model's classes "
                    f"{', '.join(map(str, known))}; give labels as the model was fitted on"
                )
        return np.array([known[label] for label in self.truth.tolist()], dtype=np.int64)

    def predictions(self, classes: Sequence[Any] | None, outputs: Arrays) -> Predictions:
        """Return probabilities [rows, classes], of a label alone 0 and 1; or values [rows]."""
        if classes is None:
            values = outputs[self.signature.outputs[0].name].astype(np.float64)
            return values if self.signature.outputs[0].shape else values.ravel()
        column = self.signature.outputs[-1]
        given = outputs[column.name]
        if column.shape:
            return given
        if len(self.signature.outputs) > 1:
            return np.stack([1 - given.ravel(), given.ravel()], axis=1)
        return np.asarray(given.reshape(-1, 1) == np.asarray(classes).reshape(1, -1), np.float64)


def classes_of(signature: Signature) -> list[Any] | None:
    """Return the classes of a signature in order; None for a quantity. Raises WrongParameter."""
    label = signature.outputs[0]
    if label.datatype is Datatype.BYTES and not label.categories:
        raise WrongParameter(f"output {label.name!r}: is a text without categories")
    return list(label.codes or label.categories or ()) or None


def _cells(column: Column, rows: Arrays) -> Any:
    values = rows[column.name]
    if column.datatype is Datatype.BYTES and column.missing:
        return [text or None for text in values]
    return values
