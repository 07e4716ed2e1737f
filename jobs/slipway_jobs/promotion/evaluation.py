"""Scores of a registered version on held-out data, computed as it is served."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from slipway.errors import NoSuchVersion, WrongDigest, WrongParameter
from slipway.packaging import artifact
from slipway.packaging.evaluation import EvaluationTable
from slipway.packaging.graph import graph_runner
from slipway.packaging.rows import Arrays
from slipway.registry.evaluations import read_table
from slipway.registry.tracking import Tracking, Version
from slipway.training.baseline import strongest
from slipway.training.installed import declared_dataset
from slipway.training.metric import Direction, Labels, Metric, Predictions, named, scores
from slipway.training.split import Split
from slipway.training.task import Task
from slipway_contract.registry import SIGNATURE_FILE, ArtifactFormat, ArtifactManifest, Tag
from slipway_contract.signature import Signature

from slipway_jobs.datasets.dataset_store import stored_table
from slipway_jobs.datasets.sources import load
from slipway_jobs.formats.served import Served
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)


class Incomparable(WrongParameter):
    """A version cannot be scored on an evaluation; the reason names what differs."""


class Evaluation(Protocol):
    """Rows with known outputs, on which versions are scored as they are served."""

    @property
    def name(self) -> str:
        """The name of the dataset or table, for results."""

    @property
    def digest(self) -> str:
        """Digest of the dataset or of the table."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """The metrics; the first one is the default of a promotion."""

    @property
    def truth(self) -> Labels:
        """The true outputs [rows]: INT64 classes, or FP64 quantities."""

    @property
    def groups(self) -> NDArray[Any]:
        """A value [rows], equal for rows that depend on each other."""

    def predictions(self, version: Version, metrics: Sequence[Metric]) -> list[Predictions]:
        """Return what each metric is computed from, of the version's verified model file.

        Raises WrongDigest, Incomparable.
        """

    def baselines(self) -> Mapping[str, Predictions]:
        """Return predictions without a model, by name."""


@contextmanager
def _scoring(version: Version, rows: str) -> Iterator[None]:
    """Turn any error of a runtime for rows that it cannot answer into Incomparable."""
    try:
        yield
    except NoSuchVersion:
        raise
    except Exception as error:
        problem = " ".join(str(error).split())[:300]
        raise Incomparable(f"{version} cannot be scored on {rows}: {problem}") from error


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows of the dataset that a version was trained on."""

    task: Task
    name: str
    digest: str
    split: Split
    tracking: Tracking

    @property
    def metrics(self) -> Sequence[Metric]:
        return self.task.metrics

    @property
    def truth(self) -> Labels:
        return self.split.test.labels

    @property
    def groups(self) -> NDArray[Any]:
        """The subject; of a split by time, a week of a subject, because new is a later week."""
        test = self.split.test
        if test.times is None:
            return test.groups
        subjects = np.unique(test.groups, return_inverse=True)[1]
        weeks = test.times.astype("datetime64[W]").astype(np.int64)
        blocks: NDArray[Any] = subjects * (np.ptp(weeks) + 1) + weeks - weeks.min()
        return blocks

    def predictions(self, version: Version, metrics: Sequence[Metric]) -> list[Predictions]:
        with tempfile.TemporaryDirectory() as temporary:
            folder, manifest = fetch(version, self.tracking, Path(temporary))
            served = Served(manifest.format, (folder / manifest.format.file).read_bytes())
        with _scoring(version, self.name):
            outputs = served.run(self.task.feeds(self.split.test.features))
            soft = self.task.predictions(outputs)
            hard = self.task.target.read_labels(self.task.signature, outputs)
        return [hard if metric.of_labels else soft for metric in metrics]

    def baselines(self) -> Mapping[str, Predictions]:
        train, test = self.split.train, self.split.test
        found = self.task.target.baselines
        return {name: baseline(train, test) for name, baseline in found.items()}


@dataclass(frozen=True)
class StoredTable:
    """The evaluation table that was logged with a version; other versions can be scored on it."""

    owner: Version
    signature: Signature
    """The signature of the owner."""
    content: bytes
    tracking: Tracking
    declared: Sequence[Metric] = ()
    """The metrics of the task; without any, they follow from the signature."""

    @property
    def name(self) -> str:
        return f"evaluation table of {self.owner}"

    @property
    def digest(self) -> str:
        return self.owner.tag(Tag.EVALUATION_DIGEST)

    @cached_property
    def _table(self) -> EvaluationTable:
        """Rows of the owner. Raises Incomparable if its classes are unknown."""
        found = EvaluationTable.read(self.content, self.signature)
        try:
            _ = found.classes
        except WrongParameter as error:
            raise Incomparable(f"the {self.name}: {error}") from error
        return found

    @property
    def metrics(self) -> Sequence[Metric]:
        return self.declared or self._table.metrics

    @property
    def truth(self) -> Labels:
        return self._table.labels

    @property
    def groups(self) -> NDArray[Any]:
        groups = self._table.groups
        return np.arange(len(self._table.truth)) if groups is None else groups

    def predictions(self, version: Version, metrics: Sequence[Metric]) -> list[Predictions]:
        with tempfile.TemporaryDirectory() as temporary:
            folder, manifest = fetch(version, self.tracking, Path(temporary))
            signature = _signature(folder)
            with _scoring(version, f"the {self.name}"):
                table = self._rows_for(signature)
                outputs = _run(folder, manifest.format, signature, table.rows)
                return [table.predictions(metric, outputs) for metric in metrics]

    def _rows_for(self, signature: Signature) -> EvaluationTable:
        """Return the rows as inputs of another version, which accepts all their values."""
        table, own = EvaluationTable.read(self.content, signature), self._table.classes
        if table.classes != own:
            raise WrongParameter(
                f"its classes are {table.classes or 'none'}, those of the table are {own or 'none'}"
            )
        for column in signature.inputs:
            given = table.rows[column.name].ravel()
            present = given[~pd.isna(given)] if column.missing else given
            column.check_values([each for each in present.tolist() if each != ""])
        return table

    def baselines(self) -> Mapping[str, Predictions]:
        truth = self.truth
        if (classes := self._table.classes) is None:
            return {"constant": np.full(len(truth), truth.mean())}
        shares = np.bincount(truth, minlength=len(classes)) / len(truth)
        return {"class shares": np.tile(shares, (len(truth), 1))}


def evaluations_of(
    task: Task | None,
    candidate: Version,
    live: Version | None,
    settings: Settings,
    tracking: Tracking,
) -> Iterator[Evaluation]:
    """Yield the evaluations of a candidate, the preferred one first.

    They are the table that was logged with it, the rows that its task held out, and the table of
    the live version. Raises NoSuchVersion when there are none, and WrongDigest.
    """
    found = False
    for owner in (candidate, live):
        if owner is not None and Tag.EVALUATION_DIGEST in owner.tags:
            found = True
            yield stored_evaluation(owner, task, tracking)
        if owner is candidate and task is not None and Tag.DATASET in candidate.tags:
            found = True
            yield held_out_of(task, candidate, settings, tracking)
    if not found:
        raise NoSuchVersion(
            f"{candidate}: has no evaluation table and no task, so it cannot be scored; log it "
            "by slipway.log_model(…, evaluation=(rows, true outputs))"
        )


def stored_evaluation(owner: Version, task: Task | None, tracking: Tracking) -> StoredTable:
    """Return the evaluation table of a version. Raises NoSuchVersion, WrongDigest."""
    declared = task.metrics if task is not None and task.data is not None else ()
    with tempfile.TemporaryDirectory() as temporary:
        folder, _ = fetch(owner, tracking, Path(temporary))
        signature = _signature(folder)
    content = read_table(owner.name, owner.tag(Tag.EVALUATION_DIGEST), tracking)
    return StoredTable(owner, signature, content, tracking, declared)


def held_out_of(task: Task, version: Version, settings: Settings, tracking: Tracking) -> HeldOut:
    """Load the version's dataset and split it as its training did.

    The dataset is read from the dataset store by its digest, otherwise from its source. Raises
    WrongDigest when it differs from what the version was trained on, because its held-out rows
    would not be held out.
    """
    name, digest = version.tag(Tag.DATASET), version.tag(Tag.DATASET_DIGEST)
    entry = declared_dataset(name)
    if (table := stored_table(name, digest, tracking)) is None:
        table = load(entry, settings)
    if table.digest != digest:
        raise WrongDigest(
            f"{version} was trained on {name} with the digest {digest}; its source now has "
            f"{table.digest}"
        )
    return HeldOut(task, name, digest, task.parts(table, entry.subject), tracking)


def evaluate(
    task: Task | None, version: Version, settings: Settings, tracking: Tracking
) -> dict[str, Any]:
    """Score a version, write the scores to its run and its tags, and return the result as JSON."""
    evaluation = next(evaluations_of(task, version, None, settings, tracking))
    metrics, truth = evaluation.metrics, evaluation.truth
    predictions = evaluation.predictions(version, metrics)
    found = {m.name: m.score(truth, p) for m, p in zip(metrics, predictions, strict=True)}
    logger.info("%s on %d rows: %s", version, len(truth), _short(found))
    tracking.log_to(version, {f"evaluate_{name}": value for name, value in found.items()})
    tracking.tag(
        version, {f"slipway.evaluation.{name}": repr(value) for name, value in found.items()}
    )
    return {
        "state": "evaluated",
        "model": version.name,
        "version": version.version,
        "dataset": evaluation.name,
        "rows": len(truth),
        "metrics": found,
        "baseline": strongest(
            metrics,
            {name: scores(metrics, truth, p) for name, p in evaluation.baselines().items()},
        ),
    }


def metric_of(evaluation: Evaluation, name: str | None, model: str) -> Metric:
    """Return the metric with that name, the first when None. Raises WrongParameter."""
    if not evaluation.metrics:
        raise WrongParameter(
            f"metric: there is none for several quantities, which {model} predicts; promote it "
            "with --rollback and a reason"
        )
    return named(evaluation.metrics, name, model)


def strongest_baseline(
    evaluation: Evaluation, metric: Metric, direction: Direction
) -> tuple[str, Predictions]:
    """Return the baseline with the best score of the metric, by name."""
    found = evaluation.baselines().items()
    best = {Direction.MAX: max, Direction.MIN: min}[direction]
    return best(found, key=lambda named: metric.score(evaluation.truth, named[1]))


def _signature(folder: Path) -> Signature:
    return Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())


def _run(folder: Path, form: ArtifactFormat, signature: Signature, rows: Arrays) -> Arrays:
    """Return the outputs of the model file for rows by input. Raises NoSuchVersion."""
    content = (folder / form.file).read_bytes()
    if form is ArtifactFormat.ONNX:
        return graph_runner(content, signature)(rows)
    if form is ArtifactFormat.SKOPS:
        # Imported here because scikit-learn's tables and skops take a second that ONNX needs not.
        from slipway.packaging.skops_file import load_skops

        return load_skops(content, signature).predict_rows(rows)
    return Served(form, content).run(rows)


def fetch(version: Version, tracking: Tracking, folder: Path) -> tuple[Path, ArtifactManifest]:
    """Download and verify the version's artifact; return its folder and manifest.

    Raises WrongDigest with the version's name.
    """
    stored = tracking.download(version, folder)
    try:
        return stored, artifact.check(stored, version.digest)
    except WrongDigest as error:
        raise WrongDigest(f"{version}: {error}") from None


def _short(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items())
