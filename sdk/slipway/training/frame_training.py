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
from slipway.registry.tracking import Tracking
from slipway.training.baseline import baseline_scores, strongest
from slipway.training.dataset import Table
from slipway.training.fitting import check_fit, choose, fit, score
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
        train, test = split.train, split.test
        chosen, estimator, folds = choose(task, parameters, train)
        estimator = fit(estimator, train)
        check_fit(task, estimator, train)
        found = score(task, estimator, test)
        baselines = baseline_scores(task.metrics, task.target.baselines, train, test)
        best = strongest(task.metrics, baselines)
        means = {name: float(np.mean(each)) for name, each in folds.items()}
        spreads = {name: float(np.std(each, ddof=1)) for name, each in folds.items()}
        parts = {"test": found, "baseline": best, "cv_mean": means, "cv_std": spreads}
        run.log(
            params={"candidate": chosen},
            metrics={f"{part}_{m}": v for part, each in parts.items() for m, v in each.items()},
        )
        version = log_to(
            run, tracking, estimator, task.name,
            evaluation=(test.features, test.truth), reference=train.features,
            use=_use(task), tags=more_tags, groups=_groups(task, test),
        )  # fmt: skip
    return {
        "state": "registered",
        "model": task.name,
        "version": version.version,
        "runId": run.id,
        "digest": version.digest,
        "dataset": entry.name,
        "synthetic": entry.synthetic,
        "estimator": chosen,
        "metrics": found,
        "baseline": best,
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
