"""Schedule of a CronJob, and the Jobs it creates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim
from slipway_cluster.clock import moment_of, stamp
from slipway_cluster.interface import Manifest
from slipway_cluster.job import INSTANTIATE, from_template

from slipway_local.standin.job import finished, finished_at
from slipway_local.standin.workload import MACROS, CronJobSpec

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


def latest_run(spec: CronJobSpec, after: datetime, now: datetime) -> datetime | None:
    """Return the last scheduled time in (after, now], or None.

    Earlier missed runs are skipped, as on Kubernetes.
    """
    zone = ZoneInfo(spec.time_zone or "UTC")
    expression = MACROS.get(spec.schedule, spec.schedule)
    # Backwards from the next whole second, so that ``now`` itself counts and the next minute does
    # not.
    next_second = now.astimezone(zone).replace(microsecond=0) + timedelta(seconds=1)
    latest = next(CronSim(expression, next_second, reverse=True)).astimezone(UTC)
    if spec.starting_deadline_seconds is not None:
        after = max(after, now - timedelta(seconds=spec.starting_deadline_seconds))
    return latest if after < latest <= now else None


@dataclass(frozen=True)
class CronPlan:
    """Next steps for a CronJob."""

    start: Manifest | None
    """Job to create."""
    delete: list[str]
    """Names of Jobs to delete: replaced ones, and those beyond the history limits."""
    status: Manifest


def plan(cron_job: Manifest, jobs: Sequence[Manifest], now: datetime) -> CronPlan:
    """Return the plan for a CronJob with its Jobs, the oldest first."""
    spec = CronJobSpec.model_validate(cron_job["spec"])
    status = dict(cron_job.get("status", {}))
    # Manual Jobs count for the history limits, not for the concurrency policy.
    running = [
        job
        for job in jobs
        if not finished(job) and INSTANTIATE not in job["metadata"].get("annotations", {})
    ]
    delete = _beyond_history(spec, jobs)
    start = None
    last = moment_of(status.get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"])
    due = None if spec.suspend else latest_run(spec, last, now)
    if due and not (running and spec.concurrency_policy == "Forbid"):
        if spec.concurrency_policy == "Replace":
            delete += [job["metadata"]["name"] for job in running]
            running = []
        start = scheduled_job(cron_job, due)
        status["lastScheduleTime"] = stamp(due)
    ended = [job["status"]["completionTime"] for job in jobs if finished(job) == "Complete"]
    if ended:
        status["lastSuccessfulTime"] = max([*ended, status.get("lastSuccessfulTime", "")])
    status["active"] = [_reference(job) for job in running]
    return CronPlan(start, delete, status)


def scheduled_job(cron_job: Manifest, due: datetime) -> Manifest:
    """Return the Job of one scheduled time; its name has the time and prevents a second one."""
    job = from_template(cron_job, f"{cron_job['metadata']['name']}-{int(due.timestamp()) // 60}")
    job["metadata"]["annotations"][SCHEDULED] = stamp(due)
    return job


def _beyond_history(spec: CronJobSpec, jobs: Sequence[Manifest]) -> list[str]:
    limits = {
        "Complete": spec.successful_jobs_history_limit,
        "Failed": spec.failed_jobs_history_limit,
    }
    surplus: list[str] = []
    for outcome, limit in limits.items():
        ended = sorted((job for job in jobs if finished(job) == outcome), key=finished_at)
        surplus += [job["metadata"]["name"] for job in ended[: max(0, len(ended) - limit)]]
    return surplus


def _reference(job: Manifest) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
