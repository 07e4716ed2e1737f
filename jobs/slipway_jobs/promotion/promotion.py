"""Promotion of a version: a gate, then the move of an alias. The controller does the rollout."""

import json
import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from slipway.errors import Refused, WrongParameter
from slipway.registry.tracking import Tracking, Version
from slipway.training.metric import Direction
from slipway.training.task import Task
from slipway_contract.registry import PROMOTION, Tag

from slipway_jobs.promotion.audit import recorded
from slipway_jobs.promotion.comparison import (
    MIN_GROUPS,
    Comparison,
    Decision,
    compare_predictions,
)
from slipway_jobs.promotion.evaluation import (
    Evaluation,
    Incomparable,
    evaluations_of,
    fetch,
    metric_of,
    strongest_baseline,
)
from slipway_jobs.registry.signing import sign_version
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

STATES = {Decision.BETTER: "passed", Decision.WORSE: "refused", Decision.UNDECIDED: "undecided"}


@dataclass(frozen=True)
class PromotionRequest:
    """The parameters of a promotion."""

    alias: str
    metric: str | None = None
    direction: Direction | None = None
    min_gain: float = 0.0
    dry_run: bool = False
    rollback: bool = False
    reason: str = ""
    moved_from: str | None = None
    """Version from which alone the alias may be moved; a Job can start long after its request."""
    chosen_of: int = 1
    """Number of versions from which the candidate was chosen by their scores."""


def promote(
    task: Task | None,
    candidate: Version,
    request: PromotionRequest,
    settings: Settings,
    tracking: Tracking,
) -> dict[str, Any]:
    """Move the alias to the candidate if the gate passes it; return the result as JSON.

    ``state`` is promoted, unchanged (live already), passed (a dry run that would promote), refused
    (a worse version) or undecided. Raises Refused when another process moved the alias in the
    meantime.
    """
    live = tracking.aliased(candidate.name, request.alias)
    result: dict[str, Any] = {
        "model": candidate.name,
        "version": candidate.version,
        "alias": request.alias,
        "from": live.version if live else None,
        "dryRun": request.dry_run,
    }
    if live is not None and live.version == candidate.version:
        return {"state": "unchanged", "reason": f"{candidate} is {request.alias} already", **result}
    at = live.version if live else None
    if request.moved_from not in (None, at):
        raise Refused(
            f"{request.alias} points to version {at or 'none'} of {candidate.name}, not to "
            f"{request.moved_from}, so nothing was moved; decide again"
        )
    if request.rollback:
        gate: dict[str, Any] = {
            "gate": "skipped (rollback)",
            "reason": _without_gate(candidate, live, tracking),
        }
        state = "passed"
    else:
        evaluations = evaluations_of(task, candidate, live, settings, tracking)
        evaluation, comparison, opponent = compare(candidate, live, request, evaluations)
        decision = comparison.decision(request.min_gain)
        state = STATES[decision]
        gate = {
            "gate": state,
            "decision": decision,
            "reason": _reason(candidate, opponent, request, evaluation, comparison),
            "evaluation": evaluation.digest,
            **comparison.as_json(),
        }
    logger.info("%s", gate["reason"])
    if state == "passed" and not request.dry_run:
        _move(candidate, live, request, settings, tracking, gate)
        state = "promoted"
    return {"state": state, **result, **gate}


def compare(
    candidate: Version,
    live: Version | None,
    request: PromotionRequest,
    evaluations: Iterable[Evaluation],
) -> tuple[Evaluation, Comparison, str]:
    """Compare a candidate with the live version on the first evaluation that scores both.

    Without a live version its opponent is the strongest baseline. Returns also the name of the
    opponent. Raises WrongParameter for an unknown metric, and if no evaluation scores both.
    """
    reasons: list[str] = []
    for evaluation in evaluations:
        try:
            metric = metric_of(evaluation, request.metric, candidate.name)
            direction = request.direction or metric.direction
            (predictions,) = evaluation.predictions(candidate, [metric])
            if live is None:
                name, other = strongest_baseline(evaluation, metric, direction)
                opponent = f"the baseline ({name})"
            else:
                _warn_of_other_data(evaluation, live)
                (other,) = evaluation.predictions(live, [metric])
                opponent = f"{live} ({request.alias})"
        except WrongParameter as error:
            if not (reasons or isinstance(error, Incomparable)):
                raise
            reasons.append(str(error))
            continue
        truth, groups = evaluation.truth, evaluation.groups
        found = compare_predictions(
            metric, direction, truth, groups, predictions, other, request.chosen_of
        )
        return evaluation, found, opponent
    raise Incomparable("; ".join(reasons))


def _reason(
    candidate: Version,
    opponent: str,
    request: PromotionRequest,
    evaluation: Evaluation,
    found: Comparison,
) -> str:
    decision = found.decision(request.min_gain)
    outcome = {
        Decision.BETTER: "passes",
        Decision.WORSE: "is refused",
        Decision.UNDECIDED: "is not distinguishable",
    }[decision]
    interval = (
        f"between {found.low:+.4f} and {found.high:+.4f} with 95 % confidence"
        if np.isfinite(found.low)
        else f"of unknown confidence: {_no_interval(found)}"
    )
    remedy = (
        "; to accept a version that is a little worse, give a negative --min-gain, for example "
        "--min-gain=-0.01, or evaluate more rows"
    )
    return (
        f"{candidate} {outcome}: {found.metric.name} {found.candidate:.4f} against "
        f"{found.opponent:.4f} of {opponent} on the same {len(evaluation.truth)} held-out rows, a "
        f"gain of {found.gain:+.4f} ({found.direction}), {interval}; more than "
        f"{request.min_gain:g} is required{remedy if decision is Decision.UNDECIDED else ''}"
    )


def _no_interval(found: Comparison) -> str:
    if found.groups < MIN_GROUPS:
        return f"the rows have {found.groups} independent groups, and {MIN_GROUPS} are necessary"
    return f"{found.metric.name} is undefined for most samples of the rows"


def _warn_of_other_data(evaluation: Evaluation, live: Version) -> None:
    if evaluation.digest not in (
        live.tags.get(Tag.DATASET_DIGEST),
        live.tags.get(Tag.EVALUATION_DIGEST),
    ):
        # It can only disadvantage the candidate: the live version may have been trained on rows
        # that are held out for the candidate.
        logger.warning(
            "%s was logged with other data, which may include the candidate's held-out rows", live
        )


def _without_gate(candidate: Version, live: Version | None, tracking: Tracking) -> str:
    """Verify the artifact of a rollback's version and return the reason. Raises WrongDigest."""
    with tempfile.TemporaryDirectory() as temporary:
        fetch(candidate, tracking, Path(temporary))
    return f"rollback to {candidate}" + (f" from {live}" if live else "")


def _move(
    candidate: Version,
    live: Version | None,
    request: PromotionRequest,
    settings: Settings,
    tracking: Tracking,
    gate: dict[str, Any],
) -> None:
    now = tracking.aliased(candidate.name, request.alias)
    if (now and now.version) != (live and live.version):
        raise Refused(f"{request.alias} was moved to {now} during the evaluation; promote again")
    if settings.signing_key and Tag.SIGNER not in candidate.tags and not request.rollback:
        # A program of another author has no key; the gate accepts its version (decision 32).
        sign_version(candidate, settings, tracking)
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    record = {
        "by": settings.user,
        "why": request.reason or gate["reason"],
        "promotionId": settings.job,
        "alias": request.alias,
        "from": live.version if live else None,
        **gate,
    }
    # The record is written first, so that no alias moves without a record of user and reason.
    with recorded(
        settings,
        "alias.move",
        f"registry/{candidate.name}/aliases/{request.alias}",
        {"to": candidate.version, **record},
    ):
        tracking.tag(candidate, {PROMOTION + moment: json.dumps(record)})
        tracking.point(candidate.name, request.alias, candidate)
