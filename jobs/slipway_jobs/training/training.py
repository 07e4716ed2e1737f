"""The training pipeline of every model: choose, fit, score, export, verify, store, register."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from slipway.packaging.onnx_graph import export
from slipway.packaging.reference import reference_of
from slipway.registry.storing import store_version
from slipway.registry.tracking import Run, Tracking, Version
from slipway.training.dataset import Dataset, Features, Loaded, Table
from slipway.training.fitting import fit_best
from slipway.training.frame import load_frame
from slipway.training.frame_training import result, train_frame
from slipway.training.installed import declared_dataset
from slipway.training.metric import calibration_error
from slipway.training.split import Split
from slipway.training.target import Classes
from slipway.training.task import Estimator, Parameters, Task
from slipway_contract.registry import (
    CARD_FILE,
    EVALUATION_FILE,
    EXAMPLE_FILE,
    REFERENCE_FILE,
    SIGNATURE_FILE,
    Tag,
)

from slipway_jobs.datasets.dataset_store import store_table
from slipway_jobs.datasets.sources import first_available
from slipway_jobs.formats.served import Exported, Served
from slipway_jobs.registry.logged import save
from slipway_jobs.settings import Settings
from slipway_jobs.training.confusion import confusions, recall_metrics
from slipway_jobs.training.model_card import Results, model_card

logger = logging.getLogger(__name__)

EXPERIMENT = "training"
"""Prefix of the experiment of each model, such as ``training-heart``."""


@dataclass(frozen=True)
class Fitted:
    """A trained model with its export and its results."""

    estimator: Estimator
    exported: Exported
    results: Results

    @property
    def served(self) -> Served:
        return Served.of(self.exported)


def train(
    task: Task,
    parameters: Parameters,
    settings: Settings,
    tracking: Tracking,
    more_tags: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train and register a version and return the result as JSON.

    Run and version have ``more_tags`` too. Any error marks the run as failed; then nothing is
    registered.
    """
    if task.data is not None:
        return train_frame(task, parameters, tracking, more_tags)
    tags = {
        "slipway.model": task.name,
        Tag.GIT_REVISION: settings.revision,
        Tag.IMAGE: settings.image,
        **(more_tags or {}),
    }
    with tracking.run(f"{EXPERIMENT}-{task.name}", task.name, tags) as run:
        run.log(params=parameters.model_dump(exclude_none=True))
        loaded, split = load_parts(task, parameters, settings)
        dataset, table = loaded.entry, loaded.table
        store_table(loaded, tracking)
        tags |= _dataset_tags(loaded)
        run.log(tags=tags)
        run.log_dataset(dataset.name, dataset.source, dataset.source_type, table.digest, "training")
        fitted = fit(task, parameters, split)
        _log_results(run, task, fitted.results)
        version = _store(task, dataset, table.digest, split, fitted, settings, tracking, run, tags)
    return result(task, dataset, run, version, fitted.results)


def load_parts(task: Task, parameters: Parameters, settings: Settings) -> tuple[Loaded, Split]:
    """Load the first available dataset and split its table.

    Raises Unavailable, CorruptTable, WrongDigest, Leakage.
    """
    if task.data is not None:
        loaded = load_frame(task)
        return loaded, task.parts(loaded.table, loaded.entry.subject)
    names = [parameters.dataset] if parameters.dataset else task.datasets
    loaded = first_available([declared_dataset(name) for name in names], settings)
    return loaded, task.parts(loaded.table, loaded.entry.subject)


def fit(task: Task, parameters: Parameters, split: Split) -> Fitted:
    """Train as ``fit_best`` does and check the export on the held-out rows.

    Raises Leakage, ParityError, WrongParameter.
    """
    estimator, scores = fit_best(task, parameters, split)
    test = split.test
    exported = (task.export or export)(estimator, task.signature)
    results = Results(
        **vars(scores),
        confusions=confusions(task, test, estimator.predict(test.features)),
        calibration_error=calibration_error(
            test.labels, task.target.predict(estimator, test.features)
        )
        if task.target == Classes(2)
        else None,
        parity=check_parity(task, Served.of(exported), estimator, test.features),
    )
    return Fitted(estimator, exported, results)


def check_parity(task: Task, served: Served, estimator: Estimator, features: Features) -> float:
    """Return the largest difference of a prediction between graph and estimator.

    Raises ParityError when it is too large, or when a label differs.
    """
    return task.target.check_parity(
        task.signature, served.run(task.feeds(features)), estimator, features
    )


def _dataset_tags(loaded: Loaded) -> dict[str, str]:
    return {
        Tag.DATASET: loaded.entry.name,
        Tag.DATASET_DIGEST: loaded.table.digest,
        Tag.DATASET_LICENCE: loaded.entry.licence,
        Tag.DATASET_SOURCE: loaded.entry.source,
        Tag.DATASET_SOURCE_KIND: loaded.source_kind,
    }


def _log_results(run: Run, task: Task, results: Results) -> None:
    recalls = {f"test_{name}": value for name, value in recall_metrics(results.confusions).items()}
    metrics = results.logged(task) | recalls | {"parity_max_difference": results.parity}
    if results.calibration_error is not None:
        metrics["test_calibration_error"] = results.calibration_error
    run.log(params={"candidate": results.chosen}, metrics=metrics)


def _store(
    task: Task, dataset: Dataset, digest: str, split: Split, fitted: Fitted, settings: Settings,
    tracking: Tracking, run: Run, tags: Mapping[str, str],
) -> Version:  # fmt: skip
    """Write the artifact, upload it, verify a download of it, and register the version."""
    form = fitted.served.format
    card = model_card(task, dataset, digest, split, fitted.results, settings.revision, form)
    run.log(tags={"mlflow.note.content": card})
    provenance = {
        "runId": run.id,
        "dataset": {
            "name": dataset.name,
            "digest": digest,
            "licence": dataset.licence,
            "source": dataset.source,
        },
        "gitRevision": settings.revision,
        "image": settings.image,
        "sourceKind": tags[Tag.DATASET_SOURCE_KIND],
        "split": {"rule": split.rule, "training": _part(split.train), "heldOut": _part(split.test)},
    }
    files = {
        SIGNATURE_FILE: task.signature.model_dump_json(indent=1, exclude_defaults=True).encode(),
        EXAMPLE_FILE: example(task, split.train).encode(),
        REFERENCE_FILE: reference_of(task.signature, split.train.features)
        .model_dump_json()
        .encode(),
        CARD_FILE: card.encode(),
        EVALUATION_FILE: json.dumps(_evaluation(split, fitted.results), indent=1).encode(),
        "provenance.json": json.dumps(provenance, indent=1).encode(),
    }
    return store_version(
        tracking,
        run,
        task.name,
        files,
        form,
        tags,
        f"{task.title}: {fitted.results.chosen} on {dataset.name}",
        settings.signing_key,
        lambda folder, model_id: save(fitted.exported, folder, task.signature, run, model_id),
    )


def _part(part: Table) -> dict[str, Any]:
    """Return the rows, digest and subjects of a part.

    A table that is split by time has its first and last day instead of its subjects, which are in
    both parts.
    """
    found: dict[str, Any] = {"rows": len(part), "digest": part.digest}
    if part.times is not None:
        return {**found, "from": str(part.times.min()), "to": str(part.times.max())}
    return {**found, "subjects": [name.decode() for name in np.unique(part.groups).tolist()]}


def _evaluation(split: Split, results: Results) -> dict[str, Any]:
    """Return the scores on the held-out rows as JSON."""
    return {
        "rows": len(split.test),
        "metrics": results.test,
        "baselines": results.baselines,
        "calibrationError": results.calibration_error,
        "classes": {group: confusion.as_json() for group, confusion in results.confusions.items()},
    }


def example(task: Task, train: Table) -> str:
    """Return a V2 request of the first training row; missing values are null."""
    row = task.instance(train.features[:1])
    return task.signature.request([row]).model_dump_json(
        exclude_none=False, exclude_unset=True, indent=1
    )
