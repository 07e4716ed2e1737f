"""The training of a task that declares ``data``: choose, fit, score, package, register."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slipway_contract.registry import Tag

from slipway.model_logging import EXPERIMENT, log_to
from slipway.registry.revision import git_revision
from slipway.registry.tracking import Run, Tracking, Version
from slipway.training.dataset import Dataset, Table
from slipway.training.fitting import Scores, fit_best
from slipway.training.frame import load_frame
from slipway.training.split import BySubject
from slipway.training.task import Parameters, Task


def train_frame(
    task: Task,
    parameters: Parameters,
    tracking: Tracking,
    more_tags: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train and register a version and return the result as JSON.

    The package, the signature, the evaluation table and the reference distribution are those of
    ``slipway.log_model``. Any error marks the run as failed; then nothing is registered.
    """
    tags = {
        "slipway.model": task.name,
        Tag.GIT_REVISION.value: os.environ.get("SLIPWAY_GIT_REVISION") or git_revision(Path.cwd()),
        **(more_tags or {}),
    }
    with tracking.active_run(f"{EXPERIMENT}-{task.name}", task.name, tags) as run:
        run.log(params=parameters.model_dump(exclude_none=True))
        loaded = load_frame(task)
        entry, table = loaded.entry, loaded.table
        run.log_dataset(entry.name, entry.source, entry.source_type, table.digest, "training")
        split = task.parts(table, entry.subject)
        estimator, scores = fit_best(task, parameters, split)
        run.log(params={"candidate": scores.chosen}, metrics=scores.logged(task))
        version = log_to(
            run, tracking, estimator, task.name,
            evaluation=(split.test.features, split.test.truth), reference=split.train.features,
            use=_use(task), tags=more_tags, groups=_groups(task, split.test),
        )  # fmt: skip
    return result(task, entry, run, version, scores)


def result(
    task: Task, dataset: Dataset, run: Run, version: Version, scores: Scores
) -> dict[str, Any]:
    """Return the result of a training as JSON."""
    means, spreads = scores.cv_mean, scores.cv_spread
    return {
        "state": "registered",
        "model": task.name,
        "version": version.version,
        "runId": run.id,
        "digest": version.digest,
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "estimator": scores.chosen,
        "metrics": dict(scores.test),
        "baseline": scores.strongest_baseline(task),
        "crossValidation": {
            name: {"mean": mean, "standardDeviation": spreads[name]} for name, mean in means.items()
        },
    }


def _use(task: Task) -> str | None:
    """Return title, use and limits as Markdown for the model card; None without any."""
    limits = "\n".join(["## Limits", *(f"- {limit}" for limit in task.limits)])
    parts = (task.title, task.use, limits if task.limits else "")
    return "\n\n".join(filter(None, parts)) or None


def _groups(task: Task, rows: Table) -> NDArray[np.int64] | None:
    """Return the number of the subject of each row [rows], which has no name of it; or None."""
    groups, numbers = np.unique(rows.groups, return_inverse=True)
    if not isinstance(task.split, BySubject) or len(groups) == len(rows):
        return None
    return numbers.astype(np.int64)
