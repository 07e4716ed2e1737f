"""What a module of ``slipway_jobs.models`` declares; the pipeline does the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype, element_count

from slipway_jobs.data.dataset import Features, Labels, Table
from slipway_jobs.errors import WrongParameter
from slipway_jobs.tasks.metric import Metric, Predictions
from slipway_jobs.tasks.split import BySubject, Rule, Split, check_split
from slipway_jobs.tasks.target import Arrays, Target

TASKS: Mapping[str, str] = {
    "heart": "slipway_jobs.models.heart",
    "digits": "slipway_jobs.models.digits",
    "temperature": "slipway_jobs.models.temperature",
    "ecg": "slipway_jobs.models.ecg",
    "ecg-binary": "slipway_jobs.models.ecg_binary",
    "quantity": "slipway_jobs.models.quantity",
    "sentiment": "slipway_jobs.models.sentiment",
}
"""Name of a model: the module that declares its ``TASK``."""


_DTYPES: Mapping[Datatype, Any] = {
    Datatype.FP32: np.float32,
    Datatype.INT64: np.int64,
    Datatype.BYTES: np.object_,
}
"""What inputs of models that are trained here may be."""


class Estimator(Protocol):
    """A scikit-learn estimator; a classifier has ``predict_proba`` as well."""

    def fit(self, x: Any, y: Any, /) -> Any: ...

    def predict(self, x: Any, /) -> Any: ...


class Parameters(BaseModel):
    """What a training takes by ``--set``; a model adds its own."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    dataset: str | None = None
    """the dataset to train on; the first of the model's datasets that can be had when not set"""

    folds: int = Field(default=10, ge=2, le=20)
    """parts of the cross-validation that chooses among the candidates"""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """seed of the folds and of whatever is random in an estimator; the held-out part does not
    depend on it
    """


@dataclass(frozen=True)
class Task:
    """A model's task: what it is for, from which data, and what is tried."""

    name: str
    title: str
    use: str
    """What the model is for."""
    limits: Sequence[str]
    """What it is not for, and what is known to be weak; each a sentence of the model card."""
    datasets: Sequence[str]
    """Names in the catalogue, the preferred one first."""
    signature: Signature
    """Its outputs are those that the target asks for first, and any others."""
    target: Target
    """Classes or a quantity."""
    parameters: type[Parameters]
    candidates: Callable[[Any], Mapping[str, Estimator]]
    """Unfitted estimators on [rows, width] FP32 with NaN for missing, by a name that tells them
    apart.
    """
    metrics: Sequence[Metric]
    """The first one is the default of a promotion."""
    selection: Metric
    """Chooses among the candidates, by cross-validation on the training part."""
    split: Rule = field(default_factory=BySubject)
    """How rows are held out."""
    slices: Sequence[str] = ()
    """Inputs with codes: how well each class is found is told for each of these as well."""
    relabel: Callable[[Labels], Labels] | None = None
    """The labels of the dataset as those of this model, where they are not the same."""
    export: Callable[[Any, Signature], Any] | None = None
    """The fitted estimator as an ONNX graph with the signature's names, or a rule set, where the
    usual export cannot say it.
    """

    def metric(self, name: str | None) -> Metric:
        """The metric of that name, the first when None. Raises WrongParameter."""
        for metric in self.metrics:
            if name in (None, metric.name):
                return metric
        raise WrongParameter(
            f"metric: {name!r} is unknown; {self.name} has "
            f"{', '.join(m.name for m in self.metrics)}"
        )

    def parts(self, table: Table, subject: str) -> Split:
        """The table with the labels of this model, parted. Raises Leakage."""
        if self.relabel:
            table = replace(table, labels=self.relabel(table.labels))
        split = self.split.hold_out(table, self.target, subject)
        check_split(table, split, self.split)
        return split

    def feeds(self, features: Features) -> dict[str, NDArray[Any]]:
        """The columns of ``features`` by input name: [rows, 1] for a scalar, [rows, *shape] for a
        vector; in their datatypes.
        """
        parts, start = {}, 0
        for column in self.signature.inputs:
            width = element_count(column.shape)
            part = features[:, start : start + width].reshape(
                len(features), *(column.shape or (1,))
            )
            parts[column.name] = part.astype(_DTYPES[column.datatype])
            start += width
        return parts

    def instance(self, row: Features) -> dict[str, Any]:
        """A row [1, width] as plain values by input name; None for missing."""
        found: dict[str, Any] = {}
        for column, values in zip(self.signature.inputs, self.feeds(row).values(), strict=True):
            plain = [_plain(value) for value in values.ravel()]
            found[column.name] = plain if column.shape else plain[0]
        return found

    def predictions(self, outputs: Arrays) -> Predictions:
        """The model's predictions from its outputs by name."""
        return self.target.read(self.signature, outputs)


def _plain(value: Any) -> float | int | str | None:
    if not isinstance(value, np.floating):
        return value.item() if isinstance(value, np.generic) else str(value)
    return None if np.isnan(value) else round(float(value), 6)


def parameters_schema(task: Task) -> dict[str, Any]:
    """JSON Schema of what a training takes, as its Job template tells it to the gateway."""
    schema = task.parameters.model_json_schema()
    for described in (schema, *schema["properties"].values()):
        described["description"] = _one_line(described.get("description"))
    schema["properties"]["dataset"]["anyOf"][0]["enum"] = list(task.datasets)
    return schema


def _one_line(text: str | None) -> str:
    """Return the text of a docstring without its line breaks."""
    return " ".join((text or "").split())


def declared_task(name: str) -> Task:
    """Return the declared task of that name. Raises WrongParameter."""
    if name not in TASKS:
        raise WrongParameter(f"model: {name!r} is unknown; there are {', '.join(TASKS)}")
    return cast("Task", import_module(TASKS[name]).TASK)


def parse_parameters(task: Task, given: Mapping[str, str]) -> Parameters:
    """Raises WrongParameter that names each wrong parameter and what it may be."""
    fields = task.parameters.model_fields
    if (dataset := given.get("dataset")) is not None and dataset not in task.datasets:
        raise WrongParameter(f"dataset: {dataset!r} is not one of {', '.join(task.datasets)}")
    try:
        return task.parameters.model_validate(given)
    except ValidationError as error:
        found = []
        for problem in error.errors(include_url=False):
            field = str(problem["loc"][0])
            if field not in fields:
                found.append(
                    f"{field}: is not a parameter of {task.name}; it takes {', '.join(fields)}"
                )
            else:
                found.append(
                    f"{field}: {problem['msg']}, not {problem['input']!r} "
                    f"({_one_line(fields[field].description)})"
                )
        raise WrongParameter("; ".join(found)) from None
