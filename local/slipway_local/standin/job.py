"""Status of a Job from its pods: retries, deadlines, completion."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway_cluster.clock import moment_of, stamp
from slipway_cluster.interface import Manifest
from slipway_cluster.job import container_statuses, phase_of, terminated

from slipway_local.standin.workload import JobSpec


@dataclass(frozen=True)
class Backoff:
    """Exponential delays, in seconds. Kubernetes has 10, 300, 600."""

    first: float = 2
    longest: float = 120
    reset_after: float = 60
    """Run time after which a process counts as healthy: its next crash is the first again."""

    def delay(self, failures: int) -> float:
        """Return the delay after so many consecutive failures; the first restart is immediate."""
        return (
            0.0 if failures <= 1 else min(self.longest, self.first * 2.0 ** min(failures - 2, 32))
        )


INDEX = "batch.kubernetes.io/job-completion-index"
"""Label and annotation of an Indexed Job's pods; their environment has ``JOB_COMPLETION_INDEX``."""


@dataclass(frozen=True)
class JobPlan:
    """Next steps for a Job."""

    status: Manifest
    start: Sequence[int | None] = ()
    """Indexes to start a (new) pod for; None is the index of a Job that has none."""
    retries: int = 0
    """Container restarts that the new pod may use, where its restartPolicy allows them."""
    stop: list[str] = field(default_factory=list)
    """Names of pods to stop."""
    delete: bool = False
    """True when ttlSecondsAfterFinished has passed."""


def finished(job: Manifest) -> str | None:
    """Return ``Complete``, ``Failed``, or None for an unfinished Job."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return None


def finished_at(job: Manifest) -> datetime:
    """Return when a finished Job ended."""
    (condition,) = [
        each for each in job["status"]["conditions"] if each["type"] in ("Complete", "Failed")
    ]
    return moment_of(condition["lastTransitionTime"])


def plan(job: Manifest, pods: Sequence[Manifest], now: datetime, backoff: Backoff) -> JobPlan:
    """Return the plan for a Job with its pods, the oldest first."""
    spec = JobSpec.model_validate(job["spec"])
    if finished(job):
        ttl = spec.ttl_seconds_after_finished
        expired = ttl is not None and now >= finished_at(job) + timedelta(seconds=ttl)
        return JobPlan(job["status"], delete=expired)
    active = [pod for pod in pods if phase_of(pod) in ("Pending", "Running")]
    failed = sum(phase_of(pod) == "Failed" for pod in pods)
    by_index = _by_index(spec, pods)
    done = [
        index for index, own in by_index.items() if any(phase_of(pod) == "Succeeded" for pod in own)
    ]
    status: Manifest = {"startTime": stamp(now), **job.get("status", {})}
    status.update(
        active=len(active), succeeded=len(done), failed=failed, ready=sum(map(_is_running, active))
    )
    if spec.is_indexed:
        status["completedIndexes"] = _ranges(done)
    if len(done) == spec.completions:
        return JobPlan(_completed(status, now))
    # A container restarted in its pod counts like a failed pod.
    failures = failed + sum(map(_restarts, pods))
    deadline = spec.active_deadline_seconds
    problem = None
    if deadline is not None and now >= moment_of(status["startTime"]) + timedelta(seconds=deadline):
        problem = ("DeadlineExceeded", "Job was active longer than specified deadline")
    elif message := _permanent_failure(spec, pods):
        problem = ("PodFailurePolicy", message)
    elif failures > spec.backoff_limit:
        problem = (
            "BackoffLimitExceeded",
            f"Job has reached the specified backoff limit ({spec.backoff_limit} retries)",
        )
    if problem:
        return JobPlan(
            _failed(status, len(active), *problem, now),
            stop=[pod["metadata"]["name"] for pod in active],
        )
    idle = [
        index
        for index, own in by_index.items()
        if index not in done and not any(pod in active for pod in own)
    ]
    due = [index for index in idle if now >= _retry_time(by_index[index], backoff, now)]
    return JobPlan(
        status, start=due[: spec.parallelism - len(active)], retries=spec.backoff_limit - failures
    )


def _by_index(spec: JobSpec, pods: Sequence[Manifest]) -> Mapping[int | None, list[Manifest]]:
    """Return all pods of each index, including indexes without a pod."""
    if not spec.is_indexed:
        return {None: list(pods)}
    found: dict[int | None, list[Manifest]] = {index: [] for index in range(spec.completions)}
    for pod in pods:
        found[int(pod["metadata"]["annotations"][INDEX])].append(pod)
    return found


def _ranges(indexes: Sequence[int | None]) -> str:
    """Return the indexes as in ``completedIndexes`` of Kubernetes: ``0,2-4``."""

    def runs() -> Iterator[str]:
        ordered = sorted(index for index in indexes if index is not None)
        while ordered:
            length = next(
                (n for n, index in enumerate(ordered) if index != ordered[0] + n), len(ordered)
            )
            first, last = ordered[0], ordered[length - 1]
            yield str(first) if first == last else f"{first}-{last}"
            ordered = ordered[length:]

    return ",".join(runs())


def _completed(status: Manifest, now: datetime) -> Manifest:
    condition = _condition(
        "Complete", "CompletionsReached", "Reached expected number of succeeded pods", now
    )
    return {
        **status,
        "active": 0,
        "ready": 0,
        "completionTime": stamp(now),
        "conditions": [condition],
    }


def _failed(status: Manifest, active: int, reason: str, message: str, now: datetime) -> Manifest:
    condition = _condition("Failed", reason, message, now)
    return {
        **status,
        "active": 0,
        "ready": 0,
        "failed": status["failed"] + active,
        "conditions": [condition],
    }


def _condition(kind: str, reason: str, message: str, now: datetime) -> Manifest:
    time = stamp(now)
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": time,
        "lastTransitionTime": time,
    }


def _permanent_failure(spec: JobSpec, pods: Sequence[Manifest]) -> str | None:
    """Return the message of the FailJob rule that the end of a pod matches."""
    rules = spec.pod_failure_policy.rules if spec.pod_failure_policy else []
    for pod in pods:
        code = (terminated(pod) or {}).get("exitCode") if phase_of(pod) == "Failed" else None
        for number, rule in enumerate(rules):
            if code in rule.on_exit_codes.values:
                return (
                    f"Pod {pod['metadata']['name']} failed with exit code {code} matching "
                    f"FailJob rule at index {number}"
                )
    return None


def _retry_time(pods: Sequence[Manifest], backoff: Backoff, now: datetime) -> datetime:
    ends = [
        moment_of(each["finishedAt"])
        for pod in pods
        if (each := terminated(pod)) and "finishedAt" in each
    ]
    return max(ends) + timedelta(seconds=backoff.delay(len(pods))) if ends else now


def _restarts(pod: Manifest) -> int:
    return sum(container["restartCount"] for container in container_statuses(pod))


def _is_running(pod: Manifest) -> bool:
    return any(
        "running" in container["state"]
        for container in pod.get("status", {}).get("containerStatuses", [])
    )
