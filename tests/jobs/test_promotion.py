"""The gate, and what it leaves behind."""

import json
from dataclasses import replace
from typing import Any

import pytest
from slipway_contract.registry import Tag
from slipway_jobs.errors import NoSuchVersion, Refused, WrongDigest, WrongParameter
from slipway_jobs.promotion.promotion import AUDIT, PromotionRequest, promote
from slipway_jobs.registry.tracking import Tracking, Version
from slipway_jobs.settings import Settings
from slipway_jobs.tasks.metric import Direction
from slipway_jobs.tasks.task import Task, declared_task

from tests.jobs.conftest import Trainer
from tests.jobs.processes import connection_to


class Desk:
    """Three versions of one model, and an alias that only one test moves."""

    def __init__(self, alias: str, task: Task, settings: Settings, tracking: Tracking) -> None:
        self.alias, self.task, self.settings, self.tracking = alias, task, settings, tracking
        self.good, self.twin, self.worse = (
            tracking.version(task.name, number) for number in ("1", "2", "3")
        )

    def promote(self, version: Version, **request: Any) -> dict[str, Any]:
        return promote(
            self.task,
            version,
            PromotionRequest(**{"alias": self.alias, **request}),
            self.settings,
            self.tracking,
        )

    @property
    def live(self) -> str | None:
        found = self.tracking.aliased(self.task.name, self.alias)
        return found.version if found else None

    def audit(self, version: Version) -> list[dict[str, Any]]:
        tags = self.tracking.version(version.name, version.version).tags
        entries = [
            json.loads(value) for key, value in sorted(tags.items()) if key.startswith(AUDIT)
        ]
        return [entry for entry in entries if entry["alias"] == self.alias]


@pytest.fixture(scope="module")
def task(trained: Trainer) -> Task:
    task = replace(declared_task("heart"), name="heart-gate")
    for strength in ("0.1", "0.1", "0.0001"):
        trained(task, C=strength, folds="2")
    return task


@pytest.fixture
def desk(
    request: pytest.FixtureRequest, task: Task, settings: Settings, tracking: Tracking
) -> Desk:
    return Desk(request.node.name.replace("_", "-"), task, settings, tracking)


def test_the_first_version_must_beat_the_baseline(desk: Desk) -> None:
    result = desk.promote(desk.good)
    assert (result["state"], result["from"], desk.live) == ("promoted", None, "1")
    assert result["opponent"] == 0.5
    assert "of the baseline" in result["reason"]


def test_a_worse_version_is_refused_and_told_why(desk: Desk) -> None:
    desk.promote(desk.good)
    result = desk.promote(desk.worse, metric="log_loss")
    assert (result["state"], desk.live) == ("refused", "1")
    assert result["gain"] < 0
    assert "heart-gate/3 is refused: log_loss" in result["reason"]
    assert f"of heart-gate/1 ({desk.alias}) on the same" in result["reason"]


def test_a_better_version_takes_over_and_the_audit_tag_tells_who_when_and_why(desk: Desk) -> None:
    desk.promote(desk.worse)
    result = desk.promote(desk.good, metric="log_loss", reason="less regularised")
    assert (result["state"], result["from"], desk.live) == ("promoted", "3", "1")
    (entry,) = desk.audit(desk.good)
    assert (entry["by"], entry["why"], entry["from"]) == ("ada", "less regularised", "3")
    assert (entry["gate"], entry["metric"], entry["direction"]) == ("passed", "log_loss", "min")


def test_an_equal_version_passes_unless_a_gain_is_asked_for(desk: Desk) -> None:
    desk.promote(desk.good)
    assert desk.promote(desk.twin, min_gain=0.01)["state"] == "refused"
    assert desk.promote(desk.twin)["state"] == "promoted"


def test_a_given_direction_is_obeyed(desk: Desk) -> None:
    desk.promote(desk.good)
    assert (
        desk.promote(desk.worse, metric="log_loss", direction=Direction.MAX)["state"] == "promoted"
    )


def test_a_dry_run_moves_nothing(desk: Desk) -> None:
    assert desk.promote(desk.good, dry_run=True)["state"] == "passed"
    assert desk.live is None
    assert desk.audit(desk.good) == []


def test_what_is_live_already_is_left_alone(desk: Desk) -> None:
    desk.promote(desk.good)
    assert desk.promote(desk.good)["state"] == "unchanged"
    assert len(desk.audit(desk.good)) == 1


def test_a_rollback_skips_the_gate_and_says_so(desk: Desk) -> None:
    desk.promote(desk.worse)
    desk.promote(desk.good)
    result = desk.promote(desk.worse, rollback=True)
    assert (result["state"], result["from"], desk.live) == ("promoted", "1", "3")
    assert [entry["gate"] for entry in desk.audit(desk.worse)] == ["passed", "skipped (rollback)"]


@pytest.mark.parametrize("rollback", [False, True])
def test_a_version_with_other_bytes_than_its_digest_says_is_refused(
    desk: Desk, rollback: bool
) -> None:
    foreign = replace(desk.good, tags={**desk.good.tags, Tag.DIGEST: "sha256:" + "0" * 64})
    with pytest.raises(WrongDigest, match=r"heart-gate/1: manifest.json has the digest"):
        desk.promote(foreign, rollback=rollback)
    assert desk.live is None


def test_an_alias_that_someone_moved_meanwhile_is_left_where_it_is(
    desk: Desk, mlflow_url: str
) -> None:
    desk.promote(desk.worse)

    def someone_else(_: str, path: str, body: bytes) -> bytes:
        if path.endswith("model.onnx"):  # the gate has read the alias, and now reads the versions
            Tracking(mlflow_url).point(desk.task.name, desk.alias, desk.twin)
        return body

    with connection_to(mlflow_url, someone_else) as url:
        desk.tracking = Tracking(url)
        with pytest.raises(Refused, match=r"was moved to heart-gate/2 while the gate was at work"):
            desk.promote(desk.good)
    assert Tracking(mlflow_url).aliased(desk.task.name, desk.alias) == desk.twin


def test_unknown_metrics_and_versions_are_named(desk: Desk) -> None:
    with pytest.raises(
        WrongParameter,
        match=r"metric: 'rmse' is unknown; heart-gate has auc, brier, log_loss, accuracy",
    ):
        desk.promote(desk.good, metric="rmse")
    with pytest.raises(NoSuchVersion, match="/99: there is no such version"):
        desk.tracking.version(desk.task.name, "99")
