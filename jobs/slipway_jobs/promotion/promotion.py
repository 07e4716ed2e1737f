"""Promotion of a version: a gate, then the move of an alias. The controller does the rollout."""

import json
import logging
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.errors import Refused
from slipway.registry.tracking import Tracking, Version
from slipway.training.metric import Direction
from slipway_contract.registry import Tag

from slipway_jobs.promotion.audit import recorded
from slipway_jobs.promotion.evaluation import HeldOut, fetch, held_out_of
from slipway_jobs.settings import Settings
from slipway_jobs.tasks.task import Task

logger = logging.getLogger(__name__)

AUDIT = "slipway.promotion."
"""Prefix of a version's tags, followed by the time.

The value records user, reason, previous version and gate result.
"""


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


@dataclass(frozen=True)
class GateResult:
    """The decision of the gate, with the numbers behind it."""

    passed: bool
    reason: str
    metric: str
    direction: Direction
    candidate: float
    opponent: float
    gain: float


def promote(
    task: Task,
    candidate: Version,
    request: PromotionRequest,
    settings: Settings,
    tracking: Tracking,
) -> dict[str, Any]:
    """Move the alias to the candidate if the gate passes it; return the result as JSON.

    ``state`` is promoted, unchanged (live already), passed (a dry run that would promote) or
    refused. Raises Refused when another process moved the alias in the meantime.
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
    if request.rollback:
        gate: dict[str, Any] = {
            "gate": "skipped (rollback)",
            "reason": _without_gate(candidate, live, tracking),
        }
        passed = True
    else:
        decision = compare(task, candidate, live, request, settings, tracking)
        passed = decision.passed
        gate = {
            "gate": "passed" if passed else "refused",
            **{k: v for k, v in vars(decision).items() if k != "passed"},
        }
    logger.info("%s", gate["reason"])
    if passed and not request.dry_run:
        _move(candidate, live, request, settings, tracking, gate)
    state = "refused" if not passed else "passed" if request.dry_run else "promoted"
    return {"state": state, **result, **gate}


def compare(
    task: Task,
    candidate: Version,
    live: Version | None,
    request: PromotionRequest,
    settings: Settings,
    tracking: Tracking,
) -> GateResult:
    """Score both versions on the candidate's held-out rows and return the gate's decision.

    The candidate passes when it is better by at least ``min_gain``; with 0, when it is not worse.
    Without a live version it is compared with the baseline, and must be better.
    """
    held_out = held_out_of(task, candidate, settings, tracking)
    metric = task.metric(request.metric)
    direction = request.direction or metric.direction
    score = held_out.score(candidate, tracking)[metric.name]
    if live is None:
        other, name = held_out.baseline()[metric.name], "the baseline"
    else:
        _warn_of_other_data(held_out, live)
        other, name = held_out.score(live, tracking)[metric.name], f"{live} ({request.alias})"
    gain = direction.gain(score, other)
    passed = gain >= request.min_gain and (live is not None or gain > 0)
    bound = f"at least {request.min_gain:g}" if live or request.min_gain else "more than 0"
    reason = (
        f"{candidate} {'passes' if passed else 'is refused'}: {metric.name} {score:.4f} "
        f"against {other:.4f} of {name} "
        f"on the same {len(held_out.split.test)} held-out rows, a gain of {gain:+.4f} "
        f"({direction}); {bound} is required"
    )
    return GateResult(passed, reason, metric.name, direction, score, other, gain)


def _warn_of_other_data(held_out: HeldOut, live: Version) -> None:
    if live.tags.get(Tag.DATASET_DIGEST) != held_out.digest:
        # It can only disadvantage the candidate: the live version may have been trained on rows
        # that are held out for the candidate.
        logger.warning(
            "%s was trained on other data, which may include the candidate's held-out rows", live
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
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    record = {
        "by": settings.user,
        "why": request.reason or gate["reason"],
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
        tracking.tag(candidate, {AUDIT + moment: json.dumps(record)})
        tracking.point(candidate.name, request.alias, candidate)
