"""Requests to the gateway as steps, which ``Client`` and ``AsyncClient`` carry out.

A flow is a generator: it yields a request, or seconds to wait, and receives the response. So
retries, chunks and polling are written once for both clients.
"""

import os
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from slipway import frames, operations
from slipway.errors import (
    ApiError,
    Conflict,
    InvalidRequest,
    LimitReached,
    NoResponse,
    NoResult,
    NotAllowed,
    NotFound,
    NotLoggedIn,
    Rejected,
    ServerError,
    SlipwayError,
    TooLarge,
    WrongParameter,
)
from slipway.operations import Operation
from slipway.responses import (
    AuditList,
    Batch,
    FeedbackAnswer,
    PredictionAnswer,
    Promotion,
    Training,
)

T = TypeVar("T")
Job = TypeVar("Job", Training, Promotion, Batch)

CHUNK = 1000
"""Rows of one prediction request."""
ATTEMPTS = 5
LONGEST_WAIT = 30.0
"""Seconds of ``Retry-After`` that are waited for; a longer one, of a day's quota, is an error."""
BACKOFF = 0.2
POLL_SECONDS = 1.0
TIMEOUT = 60.0
"""Seconds; more than the gateway waits for a predictor."""

_ERRORS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: NotLoggedIn,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: TooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: LimitReached,
    507: LimitReached,
}
_ENDED = frozenset({"succeeded", "failed", "dead", "cancelled"})


@dataclass(frozen=True)
class Request:
    """An HTTP request, without the address of the gateway and the token."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes | None = None
    files: Mapping[str, Any] | None = None
    repeatable: bool = False
    """Whether the request can be sent again after a failure that may have followed its effect."""
    stream: bool = False
    """Whether the content of a successful response is left to be read."""
    read_seconds: float | None = TIMEOUT
    """Longest time between two parts of a response."""


Step = Request | float
Reply = httpx2.Response | httpx2.TransportError | SlipwayError | None
"""A response, a failure of the connection, or an error of the access token."""
Flow = Generator[Step, Reply, T]


def checked_url(url: str, name: str) -> str:
    """Return a URL without trailing slashes. Raises WrongParameter for a text that is none."""
    if "://" not in url:
        raise WrongParameter(f"{name}: {url!r} has no scheme; write for example https://{url}")
    try:
        urlsplit(url).port  # noqa: B018  raises ValueError
        httpx2.URL(url)
        is_url = url.isprintable() and " " not in url
    except (ValueError, httpx2.InvalidURL):
        is_url = False
    if not is_url:
        raise WrongParameter(
            f"{name}: {url!r} is not a URL; write for example https://slipway.example"
        )
    return url.rstrip("/")


def request_of(
    operation: Operation[Any], parameters: Mapping[str, Any], body: Any = None, files: Any = None
) -> Request:
    """Return the request of an operation. Raises TypeError for parameters that it does not have."""
    known = operation.parameters
    given = {name: value for name, value in parameters.items() if value is not None}
    if unknown := given.keys() - known.keys():
        raise TypeError(f"{operation.method} {operation.path} has no parameter {min(unknown)!r}")
    if missing := set(operation.names) - given.keys():
        raise TypeError(f"{operation.method} {operation.path} needs {min(missing)!r}")
    if not operation.body and (body is not None or files is not None):
        raise TypeError(f"{operation.method} {operation.path} has no body")
    for name in operation.names:
        if str(given[name]) in ("", ".", ".."):
            raise WrongParameter(f"{name}: {str(given[name])!r} is not a name; give another")
    headers = {
        known[name]: str(value) for name, value in given.items() if known[name] in operation.headers
    }
    for name, text in headers.items():
        if not (text.isascii() and text.isprintable()):
            raise WrongParameter(f"{name}: {text!r} is no header; give ASCII without line breaks")
    if "Idempotency-Key" in operation.headers and (
        "Prefer" not in operation.headers or "Prefer" in headers
    ):
        headers.setdefault("Idempotency-Key", str(uuid.uuid4()))
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = msgspec.json.encode(body, enc_hook=frames.plain)
    return Request(
        operation.method,
        operation.url(given),
        {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in given.items()
            if name in operation.query
        },
        headers,
        content,
        files,
        operation.method == "GET" or operation.safe or "Idempotency-Key" in headers,
    )


def respond(request: Request) -> Flow[httpx2.Response]:
    """Send a request, again after a failure that may pass, and return the successful response.

    Raises ApiError for an error response, and NoResponse.
    """
    for attempt in range(1, ATTEMPTS + 1):
        reply = yield request
        if isinstance(reply, SlipwayError):
            raise reply
        seconds = _wait(request, reply, attempt)
        if seconds is None or attempt == ATTEMPTS:
            break
        yield seconds
    if isinstance(reply, httpx2.Response):
        if reply.is_success or reply.status_code == httpx2.codes.NOT_MODIFIED:
            return reply
        raise failure(reply)
    raise NoResponse(f"{str(reply) or type(reply).__name__}") from reply


def _wait(request: Request, reply: Reply, attempt: int) -> float | None:
    """Return the seconds until the next attempt, None when it would be useless or have effects."""
    backoff = BACKOFF * 2 ** (attempt - 1)
    if not isinstance(reply, httpx2.Response):
        unsent = isinstance(reply, httpx2.ConnectError | httpx2.ConnectTimeout)
        return backoff if attempt < 3 and (unsent or request.repeatable) else None
    if reply.status_code != 429 and not (reply.status_code in (502, 503) and request.repeatable):
        return None
    after = reply.headers.get("retry-after", "")
    seconds = max(float(after), BACKOFF) if after.isdecimal() else backoff
    return seconds if seconds <= LONGEST_WAIT else None


def failure(response: httpx2.Response) -> ApiError:
    """Return the error of an error response, by its status."""
    code = response.status_code
    kind = _ERRORS.get(code, Rejected if response.is_client_error else ServerError)
    request_id = response.headers.get("x-request-id", "")
    try:
        body = response.json()
        detail = body["detail"] if "detail" in body else body["error"]
        errors = [(each["field"], each["problem"]) for each in body.get("errors") or ()]
        return kind(code, str(detail), errors, request_id)
    except (ValueError, KeyError, TypeError, AttributeError):
        return kind(code, f"{code} {response.reason_phrase}: {response.text[:200]}", (), request_id)


def call(operation: Operation[T], request: Request) -> Flow[T]:
    """Send the request of an operation and return its response in the operation's type."""
    response = yield from respond(request)
    kind: Any = operation.returns
    if response.status_code == 202 and operation.accepted is not None:
        kind = operation.accepted
    answer: T = decoded(response, kind)
    return answer


def decoded(response: httpx2.Response, kind: Any) -> Any:
    """Return the body of a response in a type. Raises SlipwayError for another body."""
    if kind is type(None):
        return None
    if kind in (bytes, str):
        return response.content if kind is bytes else response.text
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SlipwayError(
            f"the response of {response.request.url} is not one of Slipway's gateway: {error}; "
            "check the URL, and that SDK and gateway have the same release"
        ) from error


def predict(model: str, rows: Any, top: int | None) -> Flow[Any]:
    """Predict all rows in chunks; return a frame for a frame, else the list of responses."""
    if len(rows) == 0:
        raise WrongParameter("rows: there are none; give at least one row")

    def request_at(start: int, size: int) -> Request:
        body = {"instances": frames.records(rows, start, start + size)}
        return request_of(operations.predict, {"model": model, "top": top}, body)

    for start in range(0, len(rows), CHUNK):
        request_at(start, CHUNK)  # an invalid row is found before a request is sent
    answers: list[PredictionAnswer] = []
    start, size = 0, CHUNK
    while start < len(rows):
        request = request_at(start, size)
        try:
            answer = yield from call(operations.predict, request)
        except SlipwayError as error:
            if isinstance(error, TooLarge) and size > 1:
                size //= 2
                continue
            if len(rows) > size:
                error.answers = _joined(rows, answers)
                error.add_note(
                    f"{start} of {len(rows)} rows are predicted; rows are counted from row {start}"
                )
            raise
        assert isinstance(answer, PredictionAnswer)  # noqa: S101  without Prefer
        answers.append(answer)
        start += size
    return _joined(rows, answers)


def _joined(rows: Any, answers: list[PredictionAnswer]) -> Any:
    """Return the predictions of the first rows in the form of ``rows``."""
    return frames.predictions(answers) if frames.is_frame(rows) else answers


def label(ids: Any, outcomes: Any, comment: str | None) -> Flow[list[FeedbackAnswer]]:
    """Send the outcome of each row; rows of one request are sent together."""
    if isinstance(ids, str):
        pairs = [(ids, outcomes)]
    else:
        each = list(outcomes)
        if len(ids) != len(each):
            raise WrongParameter(
                f"outcomes: are {len(each)} for {len(ids)} rows; give one for each row"
            )
        pairs = [
            (str(key), [value for _, value in group])
            for key, group in groupby(zip(ids, each, strict=True), lambda pair: pair[0])
        ]
    answers = []
    for request_id, labels in pairs:
        value = labels[0] if isinstance(labels, list) and len(labels) == 1 else labels
        body = {"label": value} | ({"comment": comment} if comment else {})
        request = request_of(operations.create_feedback, {"request_id": request_id}, body)
        answers.append((yield from call(operations.create_feedback, request)))
    return answers


def following(page: Any) -> dict[str, Any] | None:
    """Return the parameters of the page after this one, None after the last."""
    if isinstance(page, AuditList):
        return {"before": page.entries[-1].number} if page.entries else None
    is_plain = isinstance(page, dict)
    cursor = page.get("nextCursor") if is_plain else getattr(page, "next_cursor", None)
    return {"cursor": cursor} if cursor else None


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside ``path``, which takes its place when it is complete."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def submit(model: str, rows: Any, key: str | None, priority: str | None) -> Flow[Any]:
    """Store a prediction as a task, once for a key."""
    parameters = {
        "model": model,
        "prefer": "respond-async",
        "idempotency_key": key,
        "slipway_priority": priority,
    }
    request = request_of(operations.predict, parameters, {"instances": frames.records(rows)})
    return (yield from call(operations.predict, request))


def train(model: str, parameters: Mapping[str, Any]) -> Flow[Training]:
    """Start a training with parameters of the model's task."""
    operation = operations.create_training
    body = {"parameters": parameters}
    return (yield from call(operation, request_of(operation, {"model": model}, body)))


def promote(model: str, version: str | int, dry_run: bool) -> Flow[Promotion]:
    """Start a promotion through the gate."""
    operation = operations.create_promotion
    body = {"version": str(version), "dryRun": dry_run}
    return (yield from call(operation, request_of(operation, {"model": model}, body)))


def log_request(model: str, job: str, follow: bool) -> Request:
    """Return the request of a training's log, which may pause for any time."""
    parameters = {"model": model, "job": job, "follow": follow or None}
    return replace(request_of(operations.get_training_logs, parameters), read_seconds=None)


def built(http: httpx2.Client | httpx2.AsyncClient, request: Request) -> httpx2.Request:
    """Return a request with the address and the defaults of a connection."""
    return http.build_request(
        request.method, request.path, params=request.query, headers=request.headers,
        content=request.content, files=request.files,
        timeout=httpx2.Timeout(TIMEOUT, read=request.read_seconds),
    )  # fmt: skip


def wait(job: Job, seconds: float) -> Flow[Job]:
    """Poll a training, a promotion or a batch until it has ended. Raises NoResult."""
    operation, parameters, name = _polled(job)
    until = time.monotonic() + seconds
    while job.state not in _ENDED:
        if time.monotonic() > until:
            raise NoResult(f"{name} has not ended after {seconds:g} s; its state is {job.state}")
        yield POLL_SECONDS
        job = yield from call(operation, request_of(operation, parameters))
    return job


def _polled(job: Any) -> tuple[Operation[Any], Mapping[str, str], str]:
    if isinstance(job, Batch):
        return operations.get_batch, {"batch_id": job.batch_id}, f"batch {job.batch_id}"
    if isinstance(job, Training):
        name = job.training_id
        return operations.get_training, {"model": job.model, "job": name}, f"training {name}"
    name = job.promotion_id
    return operations.get_promotion, {"model": job.model, "job": name}, f"promotion {name}"


def wait_task(task_id: str, seconds: float) -> Flow[Any]:
    """Poll a task until it has ended, and return it. Raises NoResult."""
    until = time.monotonic() + seconds
    while True:
        request = request_of(operations.get_task, {"task_id": task_id})
        task = yield from call(operations.get_task, request)
        if task.state in _ENDED:
            return task
        if time.monotonic() > until:
            raise NoResult(f"task {task_id} has not ended after {seconds:g} s")
        yield POLL_SECONDS
