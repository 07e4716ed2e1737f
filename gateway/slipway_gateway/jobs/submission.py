"""Submission of Jobs on behalf of callers.

The cluster's objects are the only state, so that a restart of the gateway loses nothing.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

import orjson
from anyio import to_thread
from fastapi import Header
from slipway_cluster.interface import CRON_JOB, JOB, Cluster, ClusterError, Manifest
from slipway_cluster.interface import Conflict as Taken
from slipway_cluster.interface import NotFound as Missing
from slipway_contract.labels import MODEL, PURPOSE, REQUEST, SUBMITTED, SUBMITTED_BY

from slipway_gateway.errors import Conflict, KeyReused, NotFound, TooManyJobs, Unavailable
from slipway_gateway.requestid import new_id

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description=(
            "a repeated key returns the object of the first request; another body is rejected"
        ),
    ),
]
MAX_RESULTS = 1000


class JobState(StrEnum):
    """The states of a Job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Submission:
    """A caller's request for a Job."""

    purpose: str
    template: str
    """Name of the suspended CronJob."""
    model: str
    subject: str
    content: Mapping[str, Any]
    """The request body, which the API returns with the Job."""
    args: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    """The caller's Idempotency-Key."""

    @cached_property
    def name(self) -> str:
        """The Job's name, derived from caller and key, so that the cluster rejects a duplicate."""
        parts = (self.subject, self.purpose, self.model, self.key)
        source = new_id() if self.key is None else "\0".join(map(str, parts))
        return f"{self.template}-{hashlib.sha256(source.encode()).hexdigest()[:10]}"


class Submissions:
    """An asynchronous adapter of the cluster client for Jobs.

    Its calls run in threads and do not block the event loop.
    """

    def __init__(self, cluster: Cluster, *, per_caller: int) -> None:
        self._cluster = cluster
        self._per_caller = per_caller
        self._turn = threading.Lock()
        """Held while Jobs are counted and created, so that both are one step in this process."""
        self._results: dict[str, dict[str, Any]] = {}
        """Results by the Job's uid. A result is final, and reading it costs three calls."""

    async def template(self, name: str) -> Manifest:
        """Return the suspended CronJob that is a Job's template. Raises NotFound, Unavailable."""

        def found() -> Manifest:
            with _cluster_errors():
                return self._cluster.get(CRON_JOB, name)

        try:
            return await to_thread.run_sync(found)
        except Missing:
            raise NotFound(f"the Job template {name} does not exist") from None

    async def submit(self, submission: Submission) -> tuple[Manifest, bool]:
        """Create a Job; return it, and True when it is new.

        For a repeated idempotency key the existing Job is returned. Raises NotFound, KeyReused,
        TooManyJobs, Unavailable.
        """
        return await to_thread.run_sync(self._submit, submission)

    async def check_room(self, subject: str) -> None:
        """Check that the caller may start another Job. Raises TooManyJobs, Unavailable."""

        def check() -> None:
            with _cluster_errors():
                self._check_room(subject, self._cluster.list(JOB))

        await to_thread.run_sync(check)

    def _check_room(self, subject: str, jobs: Iterable[Manifest]) -> None:
        unfinished = sum(submitted_by(job) == subject and not is_over(job) for job in jobs)
        if unfinished >= self._per_caller:
            raise TooManyJobs(self._per_caller)

    def _submit(self, submission: Submission) -> tuple[Manifest, bool]:
        name = submission.name
        content = orjson.dumps(submission.content, option=orjson.OPT_SORT_KEYS).decode()
        labels = {PURPOSE: submission.purpose, MODEL: submission.model}
        annotations = {
            SUBMITTED_BY: submission.subject,
            SUBMITTED: datetime.now(UTC).isoformat(),
            REQUEST: content,
        }
        with self._turn, _cluster_errors():
            jobs = self._cluster.list(JOB)
            if all(job["metadata"]["name"] != name for job in jobs):
                self._check_room(submission.subject, jobs)
            try:
                job = self._cluster.create_job(
                    submission.template,
                    name=name,
                    args=submission.args,
                    env={**submission.env, "SLIPWAY_JOB": name},
                    labels=labels,
                    annotations=annotations,
                )
            except Missing:
                raise NotFound(f"the Job template {submission.template} does not exist") from None
            except Taken:
                found = self._cluster.get(JOB, name)
            else:
                return job, True
        if found["metadata"].get("annotations", {}).get(REQUEST) != content:
            raise KeyReused
        return found, False

    async def find(self, purpose: str, model: str, name: str) -> Manifest:
        """Return a Job. Raises NotFound, also for another purpose or model, and Unavailable."""
        return await to_thread.run_sync(self._find, purpose, model, name)

    def _find(self, purpose: str, model: str, name: str) -> Manifest:
        with _cluster_errors():
            # A list instead of a get, so that a caller's text never becomes part of a URL.
            for each in self._cluster.list(JOB, {PURPOSE: purpose, MODEL: model}):
                if each["metadata"]["name"] == name:
                    return each
        raise NotFound(f"there is no {purpose} {name} of model {model}")

    async def all(self, purpose: str, model: str) -> list[Manifest]:
        """Return the Jobs of a model, the newest first. Raises Unavailable."""

        def listed() -> list[Manifest]:
            with _cluster_errors():
                return self._cluster.list(JOB, {PURPOSE: purpose, MODEL: model})

        return sorted(await to_thread.run_sync(listed), key=submitted, reverse=True)

    async def cancel(self, purpose: str, model: str, name: str) -> None:
        """Delete a Job. Raises NotFound, Conflict when it has finished, Unavailable."""
        job = await self.find(purpose, model, name)
        if is_over(job):
            raise Conflict(f"{purpose} {name} has already finished")

        def delete() -> None:
            with _cluster_errors():
                self._cluster.delete(JOB, name)

        await to_thread.run_sync(delete)

    def lines(self, name: str, *, follow: bool) -> Iterator[str]:
        """Yield the lines of a Job's log, blocking; none when the Job has no pod.

        Raises Unavailable.
        """
        with _cluster_errors():
            try:
                yield from self._cluster.logs(JOB, name, follow=follow)
            except Missing:
                return

    async def result(self, job: Manifest) -> dict[str, Any] | None:
        """Return the JSON object that is the last output of a Job.

        It is None while the Job runs and when its log does not exist any more. Raises Unavailable.
        """
        uid = job["metadata"]["uid"]
        if uid in self._results or not is_over(job):
            return self._results.get(uid)
        found = await to_thread.run_sync(
            lambda: _result(self.lines(job["metadata"]["name"], follow=False))
        )
        if found is not None:
            if len(self._results) >= MAX_RESULTS:
                self._results.clear()
            self._results[uid] = found
        return found


@contextmanager
def _cluster_errors() -> Iterator[None]:
    """Convert errors of the cluster to Unavailable, except Missing and Taken."""
    try:
        yield
    except (Missing, Taken):
        raise
    except (ClusterError, OSError) as error:
        raise Unavailable("the cluster does not answer") from error


def _result(lines: Iterator[str]) -> dict[str, Any] | None:
    last = None
    for line in lines:
        if line.startswith("{"):
            last = line
    try:
        found = orjson.loads(last or "")
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def state(job: Manifest) -> JobState:
    """Return the state of a Job by its conditions and its pods."""
    status = job.get("status", {})
    over = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
    if over & {"Complete", "Failed"}:
        return JobState.SUCCEEDED if "Complete" in over else JobState.FAILED
    return JobState.RUNNING if status.get("ready") else JobState.QUEUED


def is_over(job: Manifest) -> bool:
    """Return True for a finished Job, succeeded or failed."""
    return state(job) in (JobState.SUCCEEDED, JobState.FAILED)


def reason(job: Manifest) -> str | None:
    """Return the cluster's reason for a Job's failure."""
    conditions = job.get("status", {}).get("conditions", [])
    failed = (each for each in conditions if each["type"] == "Failed" and each["status"] == "True")
    return next((each.get("message") or each.get("reason") for each in failed), None)


def created(job: Manifest) -> str:
    """Return the creation time (RFC 3339, UTC)."""
    return str(job["metadata"]["creationTimestamp"])


def submitted(job: Manifest) -> str:
    """Return the time of submission in microseconds (RFC 3339, UTC); ``created`` has seconds."""
    return str(job["metadata"].get("annotations", {}).get(SUBMITTED, created(job)))


def finished(job: Manifest) -> datetime | None:
    """Return the time at which a Job succeeded or failed."""
    for each in job.get("status", {}).get("conditions", []):
        if each["type"] in ("Complete", "Failed") and each["status"] == "True":
            return datetime.fromisoformat(each["lastTransitionTime"])
    return None


def asked_for(job: Manifest) -> dict[str, Any]:
    """Return the content of the submission."""
    found: dict[str, Any] = orjson.loads(job["metadata"].get("annotations", {}).get(REQUEST, "{}"))
    return found


def submitted_by(job: Manifest) -> str:
    """Return the subject that submitted a Job, such as ``user:ada``."""
    return str(job["metadata"].get("annotations", {}).get(SUBMITTED_BY, ""))
