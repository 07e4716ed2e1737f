"""Make a version live: a gate, and then the move of an alias. Nothing else happens here; the
controller does the rest.
"""

import json
import logging
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway_contract.registry import Tag

from slipway_jobs.errors import Refused
from slipway_jobs.promotion.audit import noted
from slipway_jobs.promotion.evaluation import HeldOut, fetch, held_out_of
from slipway_jobs.registry.tracking import Tracking, Version
from slipway_jobs.settings import Settings
from slipway_jobs.tasks.metric import Direction
from slipway_jobs.tasks.task import Task

logger = logging.getLogger(__name__)

AUDIT = "slipway.promotion."
"""Tags of a version: after the prefix the moment, as value who, why, from which version, and what
the gate said.
"""


@dataclass(frozen=True)
class PromotionRequest:
    """What is asked for."""

    alias: str
    metric: str | None = None
    direction: Direction | None = None
    min_gain: float = 0.0
    dry_run: bool = False
    rollback: bool = False
    reason: str = ""


@dataclass(frozen=True)
class GateResult:
    """What the gate says, with the numbers that it rests on."""

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
    """Move the alias to the candidate when the gate lets it pass; the result as JSON, ``state``
    says what happened.

    promoted, unchanged (live already), passed (a dry run that would promote), refused.
    Raises Refused when someone else moved the alias in the meantime.
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
        verdict = compare(task, candidate, live, request, settings, tracking)
        passed = verdict.passed
        gate = {
            "gate": "passed" if passed else "refused",
            **{k: v for k, v in vars(verdict).items() if k != "passed"},
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
    """The gate: both versions on the candidate's held-out rows, now; without a live version,
    against the baseline.

    The candidate passes when it is better by at least ``min_gain``; with 0, when it is not worse.
    The baseline it must beat.
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
    needed = (
        f"at least {request.min_gain:g} is asked for"
        if live or request.min_gain
        else "more than 0 is asked for"
    )
    reason = (
        f"{candidate} {'passes' if passed else 'is refused'}: {metric.name} {score:.4f} "
        f"against {other:.4f} of {name} "
        f"on the same {len(held_out.split.test)} held-out rows, a gain of {gain:+.4f} "
        f"({direction}); {needed}"
    )
    return GateResult(passed, reason, metric.name, direction, score, other, gain)


def _warn_of_other_data(held_out: HeldOut, live: Version) -> None:
    if live.tags.get(Tag.DATASET_DIGEST) != held_out.digest:
        # To the candidate's disadvantage only: the live version may have been trained on rows that
        # the candidate never saw.
        logger.warning(
            (
                "%s was trained on other data than the candidate; rows held out here may have "
                "been in it"
            ),
            live,
        )


def _without_gate(candidate: Version, live: Version | None, tracking: Tracking) -> str:
    """A rollback asks for no score, but for a whole artifact. Raises WrongDigest."""
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
        raise Refused(
            f"{request.alias} was moved to {now} while the gate was at work; promote again"
        )
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    record = {
        "by": settings.who,
        "why": request.reason or gate["reason"],
        "alias": request.alias,
        "from": live.version if live else None,
        **gate,
    }
    # The record first: an alias that moved without a word of who and why must not be.
    with noted(
        settings,
        "alias.move",
        f"registry/{candidate.name}/aliases/{request.alias}",
        {"to": candidate.version, **record},
    ):
        tracking.tag(candidate, {AUDIT + moment: json.dumps(record)})
        tracking.point(candidate.name, request.alias, candidate)
