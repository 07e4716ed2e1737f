"""The schedule of a CronJob and its Jobs, as a function of time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from slipway_cluster import Manifest
from slipway_cluster.clock import stamp
from slipway_cluster.job import manual_job
from slipway_local.standin.schedule import SCHEDULED, latest_run, plan
from slipway_local.standin.workload import CronJobSpec

from tests.cluster.manifests import cron_job

NOON = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)


def spec(schedule: str, **more: Any) -> CronJobSpec:
    return CronJobSpec.model_validate(cron_job("tick", "pass", schedule=schedule, **more)["spec"])


def hourly(created: datetime, **more: Any) -> Manifest:
    manifest = cron_job("tick", "pass", schedule="0 * * * *", suspend=False, **more)
    manifest["metadata"] |= {"uid": "u", "creationTimestamp": stamp(created)}
    return manifest


def owned(
    name: str, outcome: str | None = None, ended: datetime = NOON, **metadata: Any
) -> Manifest:
    time = stamp(ended)
    condition = {"type": outcome, "status": "True", "lastTransitionTime": time}
    status = {"conditions": [condition], "completionTime": time} if outcome else {}
    return {"metadata": {"name": name, "uid": name, **metadata}, "status": status}


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "expected"),
    [
        ("*/15 * * * *", None, "2026-03-02T12:14:59Z", "2026-03-02T12:00:00Z"),
        ("*/15 * * * *", None, "2026-03-02T12:14:59.500Z", "2026-03-02T12:00:00Z"),
        ("*/15 * * * *", None, "2026-03-02T12:15:00Z", "2026-03-02T12:15:00Z"),
        ("30 3 * * 1-5", None, "2026-03-08T12:00:00Z", "2026-03-06T03:30:00Z"),
        ("@daily", None, "2026-03-02T12:00:00Z", "2026-03-02T00:00:00Z"),
        ("0 6 * * *", "Europe/Berlin", "2026-01-15T12:00:00Z", "2026-01-15T05:00:00Z"),
        ("0 6 * * *", "Europe/Berlin", "2026-07-15T12:00:00Z", "2026-07-15T04:00:00Z"),
        ("0 6 * * *", "Asia/Kolkata", "2026-07-15T12:00:00Z", "2026-07-15T00:30:00Z"),
    ],
)
def test_the_latest_run_is_the_last_scheduled_time(
    schedule: str, zone: str | None, now: str, expected: str
) -> None:
    moment = datetime.fromisoformat(now)
    run = latest_run(spec(schedule, timeZone=zone), moment - timedelta(days=7), moment)
    assert run
    assert stamp(run) == expected


def test_a_time_is_run_once() -> None:
    run = latest_run(spec("0 * * * *"), NOON - timedelta(hours=1), NOON)
    assert run == NOON.replace(second=0)
    assert latest_run(spec("0 * * * *"), run, NOON) is None


def test_a_run_missed_for_longer_than_the_starting_deadline_is_skipped() -> None:
    created = NOON - timedelta(days=1)
    assert plan(hourly(created), [], NOON).start
    assert plan(hourly(created, startingDeadlineSeconds=60), [], NOON).start
    assert plan(hourly(created, startingDeadlineSeconds=20), [], NOON).start is None


def test_many_missed_runs_are_replaced_by_one() -> None:
    planned = plan(hourly(NOON - timedelta(days=30)), [], NOON)
    assert planned.start
    assert planned.start["metadata"]["annotations"][SCHEDULED] == "2026-03-02T12:00:00Z"
    assert planned.status["lastScheduleTime"] == "2026-03-02T12:00:00Z"


def test_a_new_cron_job_waits_for_its_first_time() -> None:
    assert plan(hourly(NOON), [], NOON + timedelta(minutes=10)).start is None


def test_a_suspended_cron_job_starts_nothing_but_still_deletes_old_jobs() -> None:
    manifest = hourly(NOON - timedelta(days=1), successfulJobsHistoryLimit=0)
    manifest["spec"]["suspend"] = True
    planned = plan(manifest, [owned("old", "Complete")], NOON)
    assert planned.start is None
    assert planned.delete == ["old"]


@pytest.mark.parametrize(
    ("policy", "starts", "deleted"),
    [("Allow", True, []), ("Forbid", False, []), ("Replace", True, ["running"])],
)
def test_the_concurrency_policy_decides_about_a_running_job(
    policy: str, starts: bool, deleted: list[str]
) -> None:
    planned = plan(
        hourly(NOON - timedelta(days=1), concurrencyPolicy=policy), [owned("running")], NOON
    )
    assert bool(planned.start) is starts
    assert planned.delete == deleted
    assert [each["name"] for each in planned.status["active"]] == ([] if deleted else ["running"])


def test_forbid_catches_up_when_the_running_job_has_ended() -> None:
    manifest = hourly(NOON - timedelta(days=1), concurrencyPolicy="Forbid")
    manifest["status"] = plan(manifest, [owned("running")], NOON).status
    assert plan(manifest, [owned("running", "Complete")], NOON + timedelta(minutes=5)).start


def test_a_manual_job_does_not_delay_the_schedule() -> None:
    by_hand = owned("by-hand", annotations={"cronjob.kubernetes.io/instantiate": "manual"})
    assert plan(hourly(NOON - timedelta(days=1), concurrencyPolicy="Forbid"), [by_hand], NOON).start


def test_the_history_has_the_newest_of_each_outcome() -> None:
    jobs = [owned(f"s{hour}", "Complete", NOON - timedelta(hours=hour)) for hour in range(5)]
    jobs += [owned(f"f{hour}", "Failed", NOON - timedelta(hours=hour)) for hour in range(3)]
    manifest = hourly(NOON, successfulJobsHistoryLimit=2, failedJobsHistoryLimit=1)
    assert set(plan(manifest, jobs, NOON).delete) == {"s2", "s3", "s4", "f1", "f2"}


def test_a_manual_job_replaces_environment_by_name() -> None:
    manifest = hourly(NOON)
    container = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    made = manual_job(manifest, "now", ["x"], {"A": "3"})["spec"]["template"]["spec"]["containers"][
        0
    ]
    assert made["env"] == [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]
    assert made["args"] == ["x"]
    assert container["args"] == []
