"""Jobs that people ask for through the gateway. They are objects of the cluster, and what is known
of one is read from there: a gateway that ends and begins again forgets none.
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
            "the same key again gives what the first request made; with another body it is refused"
        ),
    ),
]
MAX_RESULTS = 1000


class JobState(StrEnum):
    """How far a Job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Submission:
    """What is asked for, by whom."""

    purpose: str
    template: str
    """The suspended CronJob."""
    model: str
    subject: str
    content: Mapping[str, Any]
    """What was asked for, as it is shown to whoever asks for the Job."""
    args: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    """The caller's Idempotency-Key."""

    @cached_property
    def name(self) -> str:
        """The Job's name: the same for the same key of the same caller, so that the cluster itself
        refuses a second one.
        """
        source = (
            new_id()
            if self.key is None
            else "\0".join((self.subject, self.purpose, self.model, self.key))
        )
        return f"{self.template}-{hashlib.sha256(source.encode()).hexdigest()[:10]}"


class Submissions:
    """The door to the cluster for Jobs. Unlike the cluster's own, these calls do not block the
    event loop.
    """

    def __init__(self, cluster: Cluster, *, per_caller: int) -> None:
        self._cluster = cluster
        self._per_caller = per_caller
        self._turn = threading.Lock()
        """Counting and creating are one step, for the callers of this process."""
        self._results: dict[str, dict[str, Any]] = {}
        """By the Job's uid: what was said at an end does not change, and each look costs three
        calls.
        """

    async def template(self, name: str) -> Manifest:
        """The suspended CronJob that Jobs are made from. Raises NotFound, Unavailable."""

        def found() -> Manifest:
            with _heard():
                return self._cluster.get(CRON_JOB, name)

        try:
            return await to_thread.run_sync(found)
        except Missing:
            raise NotFound(f"the Job template {name} is not there") from None

    async def submit(self, asked: Submission) -> tuple[Manifest, bool]:
        """The Job, and whether it is new: an earlier request with the same key has made it
        otherwise.

        Raises NotFound, KeyReused, TooManyJobs, Unavailable.
        """
        return await to_thread.run_sync(self._submit, asked)

    async def check_room(self, subject: str) -> None:
        """Whether the caller may begin one more Job. Raises TooManyJobs, Unavailable."""

        def check() -> None:
            with _heard():
                self._check_room(subject, self._cluster.list(JOB))

        await to_thread.run_sync(check)

    def _check_room(self, subject: str, jobs: Iterable[Manifest]) -> None:
        if (
            sum(submitted_by(job) == subject and not is_over(job) for job in jobs)
            >= self._per_caller
        ):
            raise TooManyJobs(self._per_caller)

    def _submit(self, asked: Submission) -> tuple[Manifest, bool]:
        name, content = (
            asked.name,
            orjson.dumps(asked.content, option=orjson.OPT_SORT_KEYS).decode(),
        )
        labels = {PURPOSE: asked.purpose, MODEL: asked.model}
        annotations = {
            SUBMITTED_BY: asked.subject,
            SUBMITTED: datetime.now(UTC).isoformat(),
            REQUEST: content,
        }
        with self._turn, _heard():
            jobs = self._cluster.list(JOB)
            if all(job["metadata"]["name"] != name for job in jobs):
                self._check_room(asked.subject, jobs)
            try:
                job = self._cluster.create_job(
                    asked.template,
                    name=name,
                    args=asked.args,
                    env=asked.env,
                    labels=labels,
                    annotations=annotations,
                )
            except Missing:
                raise NotFound(f"the Job template {asked.template} is not there") from None
            except Taken:
                found = self._cluster.get(JOB, name)
            else:
                return job, True
        if found["metadata"].get("annotations", {}).get(REQUEST) != content:
            raise KeyReused
        return found, False

    async def find(self, purpose: str, model: str, name: str) -> Manifest:
        """Raises NotFound, also for a Job of another purpose or model; Unavailable."""
        return await to_thread.run_sync(self._find, purpose, model, name)

    def _find(self, purpose: str, model: str, name: str) -> Manifest:
        with _heard():
            # By the list and not by the name: whatever a caller writes there never becomes part of
            # a URL.
            for each in self._cluster.list(JOB, {PURPOSE: purpose, MODEL: model}):
                if each["metadata"]["name"] == name:
                    return each
        raise NotFound(f"there is no {purpose} {name} of model {model}")

    async def all(self, purpose: str, model: str) -> list[Manifest]:
        """The newest first. Raises Unavailable."""

        def listed() -> list[Manifest]:
            with _heard():
                return self._cluster.list(JOB, {PURPOSE: purpose, MODEL: model})

        return sorted(await to_thread.run_sync(listed), key=submitted, reverse=True)

    async def cancel(self, purpose: str, model: str, name: str) -> None:
        """End the Job; nothing is left of it. Raises NotFound, Conflict when it is over,
        Unavailable.
        """
        job = await self.find(purpose, model, name)
        if is_over(job):
            raise Conflict(f"{purpose} {name} is over already")

        def delete() -> None:
            with _heard():
                self._cluster.delete(JOB, name)

        await to_thread.run_sync(delete)

    def lines(self, name: str, *, follow: bool) -> Iterator[str]:
        """Lines of the Job's log, in the caller's thread; none when it has no pod, or no more.
        Raises Unavailable.
        """
        with _heard():
            try:
                yield from self._cluster.logs(JOB, name, follow=follow)
            except Missing:
                return

    async def result(self, job: Manifest) -> dict[str, Any] | None:
        """What a Job of ours printed last: one JSON object. None while it runs, and when its log is
        gone. Raises Unavailable.
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
def _heard() -> Iterator[None]:
    """The cluster's errors as ours. What is not known there is for the caller to say."""
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
    """By its conditions and its pods."""
    status = job.get("status", {})
    over = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
    if over & {"Complete", "Failed"}:
        return JobState.SUCCEEDED if "Complete" in over else JobState.FAILED
    return JobState.RUNNING if status.get("ready") else JobState.QUEUED


def is_over(job: Manifest) -> bool:
    """Either way."""
    return state(job) in (JobState.SUCCEEDED, JobState.FAILED)


def reason(job: Manifest) -> str | None:
    """Why it failed, in the cluster's words."""
    conditions = job.get("status", {}).get("conditions", [])
    failed = (each for each in conditions if each["type"] == "Failed" and each["status"] == "True")
    return next((each.get("message") or each.get("reason") for each in failed), None)


def created(job: Manifest) -> str:
    """RFC 3339, UTC."""
    return str(job["metadata"]["creationTimestamp"])


def submitted(job: Manifest) -> str:
    """To the microsecond, where the cluster's own time knows seconds; RFC 3339, UTC."""
    return str(job["metadata"].get("annotations", {}).get(SUBMITTED, created(job)))


def finished(job: Manifest) -> datetime | None:
    """When it ended, either way."""
    for each in job.get("status", {}).get("conditions", []):
        if each["type"] in ("Complete", "Failed") and each["status"] == "True":
            return datetime.fromisoformat(each["lastTransitionTime"])
    return None


def asked_for(job: Manifest) -> dict[str, Any]:
    """The content of the submission."""
    found: dict[str, Any] = orjson.loads(job["metadata"].get("annotations", {}).get(REQUEST, "{}"))
    return found


def submitted_by(job: Manifest) -> str:
    """Subject of who asked for it, ``user:ada``."""
    return str(job["metadata"].get("annotations", {}).get(SUBMITTED_BY, ""))
