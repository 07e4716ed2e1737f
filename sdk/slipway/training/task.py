"""The task of a model, as a package declares it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from slipway_contract.docstring import one_line
from slipway_contract.signature import Signature
from slipway_contract.v2 import element_count

from slipway.errors import WrongParameter
from slipway.training.dataset import Features, Labels, Table
from slipway.training.metric import Metric, Predictions, named
from slipway.training.split import BySubject, Rule, Split, check_split
from slipway.training.target import Arrays, Classes, Target


class Estimator(Protocol):
    """A scikit-learn estimator; a classifier has ``predict_proba`` as well."""

    def fit(self, x: Any, y: Any, /) -> Any: ...

    def predict(self, x: Any, /) -> Any: ...


class Parameters(BaseModel):
    """Training parameters, set by ``--set``; a model adds its own."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    dataset: str | None = None
    """the dataset to train on; by default the model's first available one"""

    folds: int = Field(default=10, ge=2, le=20)
    """parts of the cross-validation that chooses among the candidates"""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """seed of the folds and of randomness in estimators; the held-out part does not depend on it"""


INFERRED = Signature.model_construct(inputs=(), outputs=())
"""Stands for a model signature that is inferred from the rows."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model's task: its use, data, target, estimators and metrics.

    Its rows come from ``data``, or from ``datasets``; then it declares its signature, too.
    """

    name: str
    title: str = ""
    use: str = ""
    """The intended use of the model."""
    limits: Sequence[str] = ()
    """Unsuitable uses and known weaknesses; each is a sentence of the model card."""
    data: Callable[[], Any] | None = None
    """Returns all rows as a pandas.DataFrame: numbers, texts, categories, missing values."""
    datasets: Sequence[str] = ()
    """Names of declared datasets, the preferred one first."""
    signature: Signature = INFERRED
    """The model signature; its first outputs are those that the target requires.

    That of a task with ``data`` is inferred from the rows.
    """
    target: Target
    """Classes or a quantity."""
    parameters: type[Parameters] = Parameters
    estimators: Callable[[Any], Mapping[str, Estimator]]
    """Returns unfitted estimators by name for given parameters; the best one is trained.

    They are fitted on the rows of ``data``, or on features [rows, width] FP32 with NaN for missing
    values.
    """
    metrics: Sequence[Metric]
    """The metrics; the first one is the default of a promotion."""
    selection: Metric = field(default=None)  # type: ignore[assignment]  # set after the init
    """Metric that chooses among the estimators by cross-validation; by default the first one."""
    split: Rule = field(default_factory=BySubject)
    """The rule that holds out rows."""
    slices: Sequence[str] = ()
    """Inputs with codes; recall is reported for each of their codes as well."""
    relabel: Callable[[Labels], Labels] | None = None
    """Maps the labels of the dataset to those of the model, where they differ."""
    export: Callable[[Any, Signature], Any] | None = None
    """Exports the fitted estimator as an ONNX graph with the signature's names, or as a rule set.

    None uses the default export.
    """

    def __post_init__(self) -> None:
        """Raise WrongParameter for a contradictory declaration."""
        if not self.metrics:
            raise WrongParameter(f"task {self.name}: metrics is empty; give at least one")
        if self.selection is None:
            object.__setattr__(self, "selection", self.metrics[0])
        if (self.data is None) == (not self.datasets):
            raise WrongParameter(
                f"task {self.name}: has data and datasets, or neither; give data, a function that "
                "returns a data frame, or the names of datasets"
            )
        if self.data is None and self.signature is INFERRED:
            raise WrongParameter(f"task {self.name}: has datasets and no signature; give it")
        if self.data is not None and self.target.column is None:
            raise WrongParameter(
                f"task {self.name}: has data, and its target has no column; give for example "
                'Classes(2, column="churned")'
            )
        if self.data is not None:
            given = {
                "signature": self.signature is not INFERRED,
                "relabel": self.relabel is not None,
                "export": self.export is not None,
                "slices": bool(self.slices),
            }
            if wrong := [name for name, is_given in given.items() if is_given]:
                raise WrongParameter(
                    f"task {self.name}: has data, so {', '.join(wrong)} would have no effect; "
                    "leave it out"
                )
        for metric in {*self.metrics, self.selection}:
            self._check_metric(metric)

    def _check_metric(self, metric: Metric) -> None:
        classes = self.target.count if isinstance(self.target, Classes) else 0
        if (metric.of_classes and not classes) or (metric.of_classes is False and classes):
            target = f"{classes} classes" if classes else "a quantity"
            raise WrongParameter(
                f"task {self.name}: the metric {metric.name} is none of {target}; give for "
                f"example {'ACCURACY' if classes else 'MAE'}"
            )
        if metric.binary and classes != 2:
            raise WrongParameter(
                f"task {self.name}: the metric {metric.name} needs 2 classes, and the target has "
                f"{classes}; give for example LOG_LOSS or MACRO_F1"
            )

    def metric(self, name: str | None) -> Metric:
        """Return the metric with that name, the first when None. Raises WrongParameter."""
        return named(self.metrics, name, self.name)

    def parts(self, table: Table, subject: str) -> Split:
        """Split the table, with the labels of this model. Raises Leakage."""
        if self.relabel:
            table = replace(table, labels=self.relabel(table.labels))
        split = self.split.hold_out(table, self.target, subject)
        check_split(table, split, self.split)
        return split

    def feeds(self, features: Features) -> dict[str, NDArray[Any]]:
        """Return the columns of ``features`` [rows, width] by input name, in their datatypes.

        A scalar has the shape [rows, 1], a vector [rows, *shape].
        """
        parts, start = {}, 0
        for column in self.signature.inputs:
            width = element_count(column.shape)
            part = features[:, start : start + width].reshape(
                len(features), *(column.shape or (1,))
            )
            parts[column.name] = part.astype(column.datatype.dtype)
            start += width
        return parts

    def instance(self, row: Any) -> dict[str, Any]:
        """Return a row [1, width] as plain values by input name; None for missing values."""
        found: dict[str, Any] = {}
        if self.data is not None:
            return {str(name): _cell(row[name].iloc[0]) for name in row.columns}
        for column, values in zip(self.signature.inputs, self.feeds(row).values(), strict=True):
            plain = [_plain(value) for value in values.ravel()]
            found[column.name] = plain if column.shape else plain[0]
        return found

    def predictions(self, outputs: Arrays) -> Predictions:
        """Return the model's predictions from its outputs by name."""
        return self.target.read(self.signature, outputs)


def _cell(value: Any) -> float | int | str | bool | None:
    if value is None or value != value or type(value).__name__ == "NAType":
        return None
    plain: float | int | str | bool = value.item() if isinstance(value, np.generic) else value
    return plain


def _plain(value: Any) -> float | int | str | None:
    if not isinstance(value, np.floating):
        return value.item() if isinstance(value, np.generic) else str(value)
    return None if np.isnan(value) else round(float(value), 6)


def parameters_schema(task: Task) -> dict[str, Any]:
    """Return the JSON Schema of the training parameters, for the Job template."""
    schema = task.parameters.model_json_schema()
    for described in (schema, *schema["properties"].values()):
        if "description" in described:
            described["description"] = one_line(described["description"])
    if task.data is None:
        schema["properties"]["dataset"]["anyOf"][0]["enum"] = list(task.datasets)
    else:
        del schema["properties"]["dataset"]
    return schema


def parse_parameters(task: Task, given: Mapping[str, str]) -> Parameters:
    """Return the parsed parameters.

    Raises WrongParameter with each invalid one and its valid values.
    """
    fields = task.parameters.model_fields
    if "dataset" in given and task.data is not None:
        raise WrongParameter(
            f"dataset: is not a parameter of {task.name}, whose rows come from its function data"
        )
    if (dataset := given.get("dataset")) is not None and dataset not in task.datasets:
        raise WrongParameter(f"dataset: {dataset!r} is not one of {', '.join(task.datasets)}")
    try:
        return task.parameters.model_validate(given)
    except ValidationError as error:
        found = []
        for finding in error.errors(include_url=False):
            if not finding["loc"]:  # of a validator of the whole class
                found.append(finding["msg"])
                continue
            field = str(finding["loc"][0])
            if field not in fields:
                found.append(
                    f"{field}: is not a parameter of {task.name}; it takes {', '.join(fields)}"
                )
            else:
                found.append(
                    f"{field}: {finding['msg']}, not {finding['input']!r} "
                    f"({one_line(fields[field].description)})"
                )
        raise WrongParameter("; ".join(found)) from None
