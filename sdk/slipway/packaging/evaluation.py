"""The evaluation table of a version: rows with their true outputs, and the scores on them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
GROUP = "row.group"
"""The column of the groups; a table of independent rows has none."""


@dataclass(frozen=True)
class EvaluationTable:
    """Rows by input, and their true outputs [rows] or [rows, targets]."""

    signature: Signature
    rows: Arrays
    truth: NDArray[Any]
    groups: NDArray[np.int64] | None = None
    """A number [rows], equal for rows of one subject; None: the rows are independent."""

    @classmethod
    def of(
        cls,
        signature: Signature,
        frame: pd.DataFrame,
        truth: Any,
        groups: NDArray[np.int64] | None = None,
    ) -> Self:
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
        for reserved in (LABEL, GROUP):
            if reserved in frame.columns:
                raise WrongParameter(
                    f"evaluation: the column name {reserved!r} is reserved; rename it"
                )
        return cls(signature, frame_rows(frame, signature.inputs), labels, groups)

    def content(self) -> bytes:
        """Return the table as Parquet: inputs in their datatypes, null where missing, and truth."""
        columns = {column.name: _cells(column, self.rows) for column in self.signature.inputs}
        truth = self.truth if self.truth.ndim == 1 else list(self.truth)
        file = io.BytesIO()
        groups = {} if self.groups is None else {GROUP: self.groups}
        pd.DataFrame({**columns, LABEL: truth, **groups}).to_parquet(file, index=False)
        return file.getvalue()

    @cached_property
    def digest(self) -> str:
        return digest_of(self.content())

    @classmethod
    def read(cls, content: bytes, signature: Signature) -> Self:
        """Return a stored table as rows of a signature. Raises WrongParameter if it has no such."""
        frame = pd.read_parquet(io.BytesIO(content))
        truth = frame.pop(LABEL)
        groups = frame.pop(GROUP).to_numpy(np.int64) if GROUP in frame.columns else None
        for column in signature.inputs:
            if column.name not in frame.columns:
                raise WrongParameter(f"the evaluation table has no column {column.name!r}")
            if not column.missing and frame[column.name].isna().any():
                raise WrongParameter(
                    f"the evaluation table has rows without {column.name!r}, which is required"
                )
        return cls.of(signature, frame, np.stack(truth.tolist()), groups)

    def scores(self, outputs: Arrays) -> dict[Metric, float]:
        """Return the scores of served outputs; there are none of several quantities.

        Raises WrongParameter for an unknown class.
        """
        found = {m: m.score(self.labels, self.predictions(m, outputs)) for m in self.metrics}
        return {metric: value for metric, value in found.items() if np.isfinite(value)}

    @property
    def metrics(self) -> Sequence[Metric]:
        """The metrics of classes, or of a quantity; none of several quantities."""
        classes = self.classes
        if classes is None:
            return () if self.signature.outputs[0].shape else (MAE, RMSE)
        if _probability(self.signature) is None:
            return (ACCURACY, MACRO_F1)
        if len(classes) > 2:
            return (ACCURACY, MACRO_F1, LOG_LOSS)
        ranked = (AUC,) if len(np.unique(self.labels)) == 2 else ()
        return (*ranked, LOG_LOSS, BRIER, ACCURACY)

    @property
    def classes(self) -> list[Any] | None:
        """The classes in order; None for a quantity."""
        return classes_of(self.signature)

    @cached_property
    def labels(self) -> Labels:
        """The true outputs [rows]: positions in the classes INT64, or quantities FP64.

        Raises WrongParameter for an unknown class.
        """
        if (classes := self.classes) is None:
            try:
                return self.truth.astype(np.float64)
            except (TypeError, ValueError):
                first = short(self.truth.ravel().tolist()[0])
                raise WrongParameter(
                    f"evaluation: the true output {first} is not a number; the model predicts a "
                    "quantity"
                ) from None
        known = {each: code for code, each in enumerate(classes)}
        for label in self.truth.tolist():
            if label not in known:
                raise WrongParameter(
                    f"evaluation: the true output {short(label)} is not one of the model's classes "
                    f"{', '.join(map(str, known))}; give labels as the model was fitted on"
                )
        return np.array([known[label] for label in self.truth.tolist()], dtype=np.int64)

    def predictions(self, metric: Metric, outputs: Arrays) -> Predictions:
        """Return what the metric is computed from: probabilities [rows, classes], or values.

        For a metric of labels, the served label has the probability 1. Raises WrongParameter for a
        metric of probabilities if the model has none.
        """
        if (classes := self.classes) is None:
            quantity = self.signature.outputs[0]
            values = outputs[quantity.name].astype(np.float64)
            return values if quantity.shape else values.ravel()
        label, column = _label(self.signature), _probability(self.signature)
        if label is not None and metric.of_labels:
            given = outputs[label.name].reshape(-1, 1)
            return np.asarray(given == np.asarray(classes).reshape(1, -1), np.float64)
        if column is None:
            raise WrongParameter(f"it has no probabilities, which {metric.name} needs")
        probabilities = outputs[column.name]
        if column.shape:
            return probabilities
        return np.stack([1 - probabilities.ravel(), probabilities.ravel()], axis=1)


def classes_of(signature: Signature) -> list[Any] | None:
    """Return the classes in the order of a classifier's; None for a quantity.

    scikit-learn sorts the classes, whatever the order in a signature is. Raises WrongParameter if
    the outputs are classes without codes or categories.
    """
    if label := _label(signature):
        return sorted(label.codes or label.categories or ())
    first, *others = signature.outputs
    if others or not first.datatype.is_float or _probability(signature):
        raise WrongParameter(
            f"output {first.name!r}: has no codes or categories, so its classes are unknown; give "
            "a signature with them"
        )
    return None


def _label(signature: Signature) -> Column | None:
    scalars = (column for column in signature.outputs if not column.shape)
    return next((column for column in scalars if column.codes or column.categories), None)


def _probability(signature: Signature) -> Column | None:
    """Return the output with the probabilities of all classes, or that of the last class."""
    named = (c for c in signature.outputs if c.classes or (c.name == "probability" and not c.shape))
    return next(named, None)


def _cells(column: Column, rows: Arrays) -> Any:
    values = rows[column.name]
    if column.datatype is Datatype.BYTES and column.missing:
        return [text or None for text in values]
    return list(values.reshape(len(values), -1)) if column.shape else values
