"""The promotion gate and its records."""

import json
from dataclasses import replace
from typing import Any

import pytest
from slipway.errors import NoSuchVersion, Refused, WrongDigest, WrongParameter
from slipway.registry.tracking import Tracking, Version
from slipway.training.installed import declared_task
from slipway.training.metric import Direction
from slipway.training.task import Task
from slipway_contract.registry import PROMOTION, Tag
from slipway_jobs.promotion.promotion import PromotionRequest, promote
from slipway_jobs.settings import Settings

from tests.jobs.conftest import Trainer
from tests.support.http_server import modifying_proxy


class Promotions:
    """Three versions of one model, and an alias of one test."""

    def __init__(self, alias: str, task: Task, settings: Settings, tracking: Tracking) -> None:
        self.alias, self.task, self.settings, self.tracking = alias, task, settings, tracking
        self.good, self.equal, self.worse = (
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
            json.loads(value) for key, value in sorted(tags.items()) if key.startswith(PROMOTION)
        ]
        return [entry for entry in entries if entry["alias"] == self.alias]


@pytest.fixture(scope="module")
def task(trained: Trainer) -> Task:
    task = replace(declared_task("heart"), name="heart-gate")
    for strength in ("0.1", "0.1", "0.0001"):
        trained(task, C=strength, folds="2")
    return task


@pytest.fixture
def promotions(
    request: pytest.FixtureRequest, task: Task, settings: Settings, tracking: Tracking
) -> Promotions:
    return Promotions(request.node.name.replace("_", "-"), task, settings, tracking)


def test_the_first_version_must_beat_the_baseline(promotions: Promotions) -> None:
    result = promotions.promote(promotions.good)
    assert (result["state"], result["from"], promotions.live) == ("promoted", None, "1")
    assert result["opponent"] == 0.5
    assert "of the baseline" in result["reason"]


def test_a_worse_version_is_refused_with_the_reason(promotions: Promotions) -> None:
    promotions.promote(promotions.good)
    result = promotions.promote(promotions.worse, metric="log_loss")
    assert (result["state"], promotions.live) == ("refused", "1")
    assert result["gain"] < 0
    assert "heart-gate/3 is refused: log_loss" in result["reason"]
    assert f"of heart-gate/1 ({promotions.alias}) on the same" in result["reason"]


def test_a_better_version_is_promoted_with_an_audit_tag(promotions: Promotions) -> None:
    promotions.promote(promotions.worse)
    result = promotions.promote(promotions.good, metric="log_loss", reason="less regularised")
    assert (result["state"], result["from"], promotions.live) == ("promoted", "3", "1")
    (entry,) = promotions.audit(promotions.good)
    assert (entry["by"], entry["why"], entry["from"]) == ("ada", "less regularised", "3")
    assert (entry["gate"], entry["metric"], entry["direction"]) == ("passed", "log_loss", "min")


@pytest.mark.slow
def test_an_equal_version_is_undecided_unless_a_small_loss_is_accepted(
    promotions: Promotions,
) -> None:
    promotions.promote(promotions.good)
    result = promotions.promote(promotions.equal)
    assert (result["state"], result["decision"]) == ("undecided", "not distinguishable")
    assert (result["low"], result["gain"], result["high"]) == (0, 0, 0)
    assert "give a negative --min-gain" in result["reason"]
    assert promotions.live == "1"
    assert promotions.promote(promotions.equal, min_gain=0.01)["state"] == "refused"
    assert promotions.promote(promotions.equal, min_gain=-0.01)["state"] == "promoted"


def test_a_given_direction_is_used(promotions: Promotions) -> None:
    promotions.promote(promotions.good)
    assert (
        promotions.promote(promotions.worse, metric="log_loss", direction=Direction.MAX)["state"]
        == "promoted"
    )


def test_a_dry_run_moves_nothing(promotions: Promotions) -> None:
    assert promotions.promote(promotions.good, dry_run=True)["state"] == "passed"
    assert promotions.live is None
    assert promotions.audit(promotions.good) == []


def test_a_live_version_is_not_promoted_again(promotions: Promotions) -> None:
    promotions.promote(promotions.good)
    assert promotions.promote(promotions.good)["state"] == "unchanged"
    assert len(promotions.audit(promotions.good)) == 1


def test_a_rollback_skips_the_gate_and_records_it(promotions: Promotions) -> None:
    promotions.promote(promotions.worse)
    promotions.promote(promotions.good, metric="log_loss")
    result = promotions.promote(promotions.worse, rollback=True)
    assert (result["state"], result["from"], promotions.live) == ("promoted", "1", "3")
    assert [entry["gate"] for entry in promotions.audit(promotions.worse)] == [
        "passed",
        "skipped (rollback)",
    ]


@pytest.mark.parametrize("rollback", [False, True])
def test_a_version_with_another_digest_is_refused(promotions: Promotions, rollback: bool) -> None:
    changed = replace(
        promotions.good, tags={**promotions.good.tags, Tag.DIGEST: "sha256:" + "0" * 64}
    )
    with pytest.raises(WrongDigest, match=r"heart-gate/1: manifest.json has the digest"):
        promotions.promote(changed, rollback=rollback)
    assert promotions.live is None


def test_an_alias_that_moved_in_the_meantime_is_not_moved_again(
    promotions: Promotions, mlflow_url: str
) -> None:
    promotions.promote(promotions.worse)

    def move_in_the_meantime(_: str, path: str, body: bytes) -> bytes:
        if path.endswith("model.onnx"):  # the gate has read the alias, and now reads the versions
            Tracking(mlflow_url).point(promotions.task.name, promotions.alias, promotions.equal)
        return body

    with modifying_proxy(mlflow_url, move_in_the_meantime) as url:
        promotions.tracking = Tracking(url)
        with pytest.raises(Refused, match=r"was moved to heart-gate/2 during the evaluation"):
            promotions.promote(promotions.good, metric="log_loss")
    assert Tracking(mlflow_url).aliased(promotions.task.name, promotions.alias) == promotions.equal


def test_unknown_metrics_and_versions_are_named(promotions: Promotions) -> None:
    with pytest.raises(
        WrongParameter,
        match=r"metric: 'rmse' is unknown; heart-gate has auc, brier, log_loss, accuracy",
    ):
        promotions.promote(promotions.good, metric="rmse")
    with pytest.raises(NoSuchVersion, match="/99: the registry has no such version"):
        promotions.tracking.version(promotions.task.name, "99")
