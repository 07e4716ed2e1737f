"""The best version of a model by a metric, of those that have the same evaluation."""

import logging
import math
from dataclasses import dataclass
from typing import Any

from slipway.errors import NoSuchVersion, WrongDigest, WrongParameter
from slipway.registry.tracking import Tracking, Version
from slipway.training.metric import (
    ACCURACY,
    AUC,
    BRIER,
    LOG_LOSS,
    MACRO_F1,
    MAE,
    RMSE,
    Direction,
    named,
)
from slipway.training.task import Task
from slipway_contract.registry import Tag

from slipway_jobs.promotion.evaluation import (
    Evaluation,
    Incomparable,
    held_out_of,
    metric_of,
    stored_evaluation,
)
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

MOST_VERSIONS = 20
"""Versions that are scored; the newest ones."""
MOST_READ = 1000
"""Versions whose tags are read."""
METRICS_OF_TABLES = (AUC, LOG_LOSS, BRIER, ACCURACY, MACRO_F1, MAE, RMSE)


@dataclass(frozen=True)
class Ranking:
    """Scores of versions on one evaluation."""

    metric: str
    best: Version
    scores: dict[str, float]
    """By version, the newest first."""
    skipped: dict[str, str]
    """Reasons by version, for those that could not be scored."""

    def as_json(self) -> dict[str, Any]:
        return {"by": self.metric, "scores": self.scores, "skipped": self.skipped}


def best_version(
    task: Task | None,
    name: str,
    by: str,
    direction: Direction | None,
    alias: str,
    settings: Settings,
    tracking: Tracking,
) -> Ranking:
    """Score the newest versions as the gate does, and return the best one.

    They are those with the evaluation of the newest version that has one, because scores on
    different rows cannot be compared. Of equal versions, the live one is the best, then the newest.
    Raises WrongParameter for an unknown metric, and NoSuchVersion.
    """
    named(task.metrics if task else METRICS_OF_TABLES, by, name)
    found = tracking.versions(name, MOST_READ)
    if not found:
        raise NoSuchVersion(f"{name}: the registry has no version of it; train or log one")
    keys = {version.version: _evaluation_key(version, task) for version in found}
    newest = next((version for version in found if keys[version.version]), None)
    if newest is None:
        raise NoSuchVersion(
            f"{name}: no version has an evaluation table or a task; log one by "
            "slipway.log_model(…, evaluation=(rows, true outputs))"
        )
    same = [v for v in found if keys[v.version] == keys[newest.version]][:MOST_VERSIONS]
    evaluation = _evaluation(newest, task, settings, tracking)
    metric = metric_of(evaluation, by, name)
    scored: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for version in same:
        try:
            (predictions,) = evaluation.predictions(version, [metric])
            score = metric.score(evaluation.truth, predictions)
            if not math.isfinite(score):
                raise Incomparable(f"its {by} is {score}")
        except (WrongParameter, WrongDigest, NoSuchVersion) as error:
            logger.warning("%s is skipped: %s", version, error)
            skipped[version.version] = str(error)
        else:
            scored[version.version] = score
            logger.info("%s: %s %.4f", version, by, scored[version.version])
    if not scored:
        raise Incomparable("; ".join(skipped.values()))
    live = tracking.aliased(name, alias)
    sign = 1 if (direction or metric.direction) is Direction.MAX else -1
    number = max(
        scored, key=lambda v: (sign * scored[v], live is not None and v == live.version, int(v))
    )
    best = next(version for version in same if version.version == number)
    return Ranking(by, best, scored, skipped)


def _evaluation_key(version: Version, task: Task | None) -> tuple[str, ...]:
    """Return what identifies the rows of the version's first evaluation; empty without one."""
    if digest := version.tags.get(Tag.EVALUATION_DIGEST):
        return ("table", digest)
    if task is not None and Tag.DATASET in version.tags and Tag.DATASET_DIGEST in version.tags:
        return ("dataset", version.tags[Tag.DATASET], version.tags[Tag.DATASET_DIGEST])
    return ()


def _evaluation(
    version: Version, task: Task | None, settings: Settings, tracking: Tracking
) -> Evaluation:
    if task is None or Tag.EVALUATION_DIGEST in version.tags:
        return stored_evaluation(version, task, tracking)
    return held_out_of(task, version, settings, tracking)
