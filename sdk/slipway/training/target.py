"""Prediction targets: classes, or a quantity."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from slipway_contract.signature import Signature

from slipway.errors import ParityError
from slipway.packaging.parity import TIE, TOLERANCE
from slipway.training.baseline import Baseline
from slipway.training.dataset import Features, Table
from slipway.training.metric import Predictions

logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Indices of rows to fit on, and of rows to score."""


class Target(Protocol):
    """How predictions are computed from an estimator, from its graph, and by baselines."""

    @property
    def baselines(self) -> Mapping[str, Baseline]: ...

    @property
    def column(self) -> str | None: ...

    def predict(
        self, estimator: Any, features: Features, classes: Sequence[Any] = ()
    ) -> Predictions:
        """Return the predictions of the estimator.

        ``classes`` are the values that it was fitted on, in the order of the classes; without any,
        it was fitted on the classes.
        """

    def predict_labels(
        self, estimator: Any, features: Features, classes: Sequence[Any] = ()
    ) -> Predictions:
        """Return what a metric of labels is computed from: the predicted class has 1."""

    def read(self, signature: Signature, outputs: Arrays) -> Predictions:
        """Return the predictions from a model's outputs by name."""

    def read_labels(self, signature: Signature, outputs: Arrays) -> Predictions:
        """Return what a metric of labels is computed from: the served class has 1."""

    def strata(self, table: Table) -> NDArray[Any]:
        """Return a value per row [rows]; the same share of each value is held out."""

    def folds(self, table: Table, parts: int, seed: int) -> Iterator[Fold]:
        """Yield the folds of a cross-validation; a group is in one part only."""

    def check_parity(
        self, signature: Signature, outputs: Arrays, estimator: Any, features: Features
    ) -> float:
        """Return the largest difference between graph and estimator.

        Raises ParityError when it is too large.
        """


@dataclass(frozen=True)
class Classes:
    """Classes, numbered from 0. Predictions are probabilities [rows, classes].

    The first output is the label. The second has the probabilities, or, of two classes, the
    probability of class 1.
    """

    count: int
    column: str | None = None
    """Column of the classes in the data frame of a task that declares ``data``."""

    @property
    def baselines(self) -> Mapping[str, Baseline]:
        return {"class shares": self._prior}

    def _prior(self, train: Table, test: Table) -> Predictions:
        """Return the classes' shares in the training rows; its label is the majority class."""
        return np.tile(np.bincount(train.labels, minlength=self.count) / len(train), (len(test), 1))

    def predict(
        self, estimator: Any, features: Features, classes: Sequence[Any] = ()
    ) -> Predictions:
        if not hasattr(estimator, "predict_proba"):
            return self.predict_labels(estimator, features, classes)
        probabilities = np.zeros((len(features), self.count))
        position = {value: code for code, value in enumerate(classes or range(self.count))}
        # The training rows of a fold may lack a class.
        fitted = [position[value] for value in np.asarray(estimator.classes_).tolist()]
        probabilities[:, fitted] = estimator.predict_proba(features)
        return probabilities

    def predict_labels(
        self, estimator: Any, features: Features, classes: Sequence[Any] = ()
    ) -> Predictions:
        # A label may differ from the most probable class: an estimator may have a threshold.
        return _is_each(estimator.predict(features), classes or range(self.count))

    def read(self, signature: Signature, outputs: Arrays) -> Predictions:
        column = signature.outputs[1]
        given = outputs[column.name]
        return given if column.shape else np.stack([1 - given.ravel(), given.ravel()], axis=1)

    def read_labels(self, signature: Signature, outputs: Arrays) -> Predictions:
        return _is_each(outputs[signature.outputs[0].name], range(self.count))

    def strata(self, table: Table) -> NDArray[Any]:
        return table.labels

    def folds(self, table: Table, parts: int, seed: int) -> Iterator[Fold]:
        yield from StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(
            table.features, table.labels, groups=table.groups
        )

    def check_parity(
        self, signature: Signature, outputs: Arrays, estimator: Any, features: Features
    ) -> float:
        """Return the largest difference; of equally probable classes, the graph may return either.

        A forest's votes can be such a tie.
        """
        labels = outputs[signature.outputs[0].name]
        expected, rows = self.predict(estimator, features), np.arange(len(features))
        apart = np.abs(expected[rows, labels] - expected[rows, estimator.predict(features)])
        if wrong := int((apart > TIE).sum()):
            raise ParityError(
                f"{wrong} of {len(features)} labels of the ONNX graph differ from the estimator's"
            )
        difference = float(np.abs(self.read(signature, outputs) - expected).max())
        if not difference < TOLERANCE:
            raise ParityError(
                "probabilities of the ONNX graph differ from the estimator's by "
                f"{difference:.2g}; {TOLERANCE} is allowed"
            )
        logger.info(
            "the graph has the estimator's labels, probabilities within %.1e, on %d rows",
            difference,
            len(features),
        )
        return difference


@dataclass(frozen=True)
class Quantity:
    """A number with a unit. Predictions are values [rows]; the first output is the value."""

    extra: Mapping[str, Baseline] = field(default_factory=dict)
    """Baselines in addition to the constant one."""
    column: str | None = None
    """Column of the quantity in the data frame of a task that declares ``data``."""

    @property
    def baselines(self) -> Mapping[str, Baseline]:
        return {"constant": _mean, **self.extra}

    def predict(
        self,
        estimator: Any,
        features: Features,
        classes: Sequence[Any] = (),  # noqa: ARG002  # part of the protocol
    ) -> Predictions:
        return np.asarray(estimator.predict(features), dtype=np.float64).ravel()

    predict_labels = predict

    def read(self, signature: Signature, outputs: Arrays) -> Predictions:
        return outputs[signature.outputs[0].name].astype(np.float64).ravel()

    read_labels = read

    def strata(self, table: Table) -> NDArray[Any]:
        return np.zeros(len(table), dtype=np.int64)

    def folds(self, table: Table, parts: int, seed: int) -> Iterator[Fold]:
        yield from GroupKFold(parts, shuffle=True, random_state=seed).split(
            table.features, groups=table.groups
        )

    def check_parity(
        self, signature: Signature, outputs: Arrays, estimator: Any, features: Features
    ) -> float:
        expected = self.predict(estimator, features)
        apart = np.abs(self.read(signature, outputs) - expected) / np.maximum(1, np.abs(expected))
        difference = float(apart.max())
        if not difference < TOLERANCE:
            raise ParityError(
                f"values of the ONNX graph differ from the estimator's by {difference:.2g}; "
                f"{TOLERANCE} is allowed"
            )
        logger.info(
            "the graph has the estimator's values within %.1e, on %d rows",
            difference,
            len(features),
        )
        return difference


def _is_each(labels: Any, values: Sequence[Any]) -> Predictions:
    """Return for each label [rows, values] 1 where it is the value."""
    is_value = np.asarray(labels).reshape(-1, 1) == np.asarray(values).reshape(1, -1)
    return np.asarray(is_value, dtype=np.float64)


def _mean(train: Table, test: Table) -> Predictions:
    return np.full(len(test), train.labels.mean())
