"""Client of the gateway: ``Client().predict("churn", frame)``."""

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from slipway import exchange, operations
from slipway import profile as profiles
from slipway.errors import (
    NoResponse,
    NoResult,
    ProviderUnavailable,
    SlipwayError,
    WrongParameter,
)
from slipway.exchange import TIMEOUT, Flow, Job, Request, checked_url, replaced, request_of
from slipway.operations import Operation
from slipway.profile import LoginRequired
from slipway.responses import FeedbackAnswer, Promotion, TaskAnswer, Training

T = TypeVar("T")
Token = Callable[[], str]
"""Returns a valid access token; it may renew it, which takes a request."""

POLL_SECONDS = 1.0
_NO_URL = "SLIPWAY_URL: is not set; set it to the URL of the gateway, or run slipway login URL"


class Authorization(httpx2.Auth):
    """The Authorization header of each request."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Add the header; a renewal of the token blocks, so an event loop calls it in a thread."""
        request.headers["Authorization"] = self._header()
        yield request

    def _header(self) -> str:
        """Return the header. Its errors do not contain the token, nor name the gateway.

        Raises WrongParameter for a token with characters that no header has, ProviderUnavailable.
        """
        try:
            token = self._token().strip()
        except (httpx2.TransportError, NoResponse) as error:
            raise ProviderUnavailable(
                f"access token: is not renewed: {error}; try again"
            ) from error
        if not token or not all("!" <= each <= "~" for each in token):
            raise WrongParameter(
                "access token: is empty, or has spaces, line breaks or characters outside ASCII; "
                "set SLIPWAY_TOKEN to the token alone, without Bearer"
            )
        return f"Bearer {token}"


def connection(
    url: str | None, token: str | Token | None, profile: str | None
) -> tuple[str, Token]:
    """Return address and token of the gateway, from environment or profile where not given.

    The token of a profile is sent to the URL of this profile alone. Raises WrongParameter, and
    LoginRequired when there is no token.
    """
    named = profile or os.environ.get("SLIPWAY_PROFILE")
    given = url or ("" if named else os.environ.get("SLIPWAY_URL", ""))
    address = checked_url(given, "URL" if url else "SLIPWAY_URL") if given else ""
    if token is None and not named:
        token = os.environ.get("SLIPWAY_TOKEN") or _service_account(address)
    if token is None:
        found = profiles.chosen(profile)
        if found is not None and address in ("", found.url):
            owner = found
            return found.url, lambda: profiles.access_token(owner)
    if not address:
        raise WrongParameter(_NO_URL)
    if token is None:
        raise LoginRequired(
            "SLIPWAY_TOKEN: is not set; set it to an access token of the identity provider, or run "
            f"slipway login {address}"
        )
    text = token
    return address, (lambda: text) if isinstance(text, str) else text


def _service_account(url: str) -> Token | None:
    """Return the token of the service account in the environment, None without one.

    Its secret is not sent to a provider that another gateway than SLIPWAY_URL names.
    """
    client_id, secret = (os.environ.get(f"SLIPWAY_CLIENT_{each}", "") for each in ("ID", "SECRET"))
    if not client_id or not secret:
        return None
    if not url:
        raise WrongParameter(_NO_URL)
    from slipway.login import ServiceAccount, discovered

    issuer = os.environ.get("SLIPWAY_ISSUER", "")
    if not issuer:
        if url != os.environ.get("SLIPWAY_URL", "").rstrip("/"):
            raise WrongParameter(
                f"SLIPWAY_ISSUER: is not set, and {url} is not the gateway in SLIPWAY_URL; set "
                "SLIPWAY_ISSUER to the identity provider of the service account"
            )
        issuer = discovered(url, None, None, remedy="set SLIPWAY_ISSUER")[0]
    return ServiceAccount(issuer, client_id, secret)


class Client:
    """A connection to the gateway with a caller's token; a context manager.

    Without arguments, ``SLIPWAY_URL`` with ``SLIPWAY_TOKEN`` or a service account is used, else the
    current profile of ``slipway login``. Every operation of the HTTP API is sent by ``call``;
    the other methods are for what takes several requests.

    >>> client.call(operations.list_models).models  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | Token | None = None,
        *,
        profile: str | None = None,
    ) -> None:
        self.url, provider = connection(url, token, profile)
        self._http = httpx2.Client(base_url=self.url, auth=Authorization(provider), timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self, operation: Operation[T], *, body: Any = None, files: Any = None, **parameters: Any
    ) -> T:
        """Send an operation and return its response.

        ``parameters`` are those of path, query and headers in snake case, ``body`` is JSON, and
        ``files`` a form with files. Raises ApiError and NoResponse.
        """
        request = request_of(operation, parameters, body, files)
        return self._run(exchange.call(operation, request))

    def send(
        self, operation: Operation[Any], *, body: Any = None, files: Any = None, **parameters: Any
    ) -> httpx2.Response:
        """Send an operation and return the HTTP response: status, headers, content."""
        return self._run(exchange.respond(request_of(operation, parameters, body, files)))

    def pages(self, operation: Operation[T], **parameters: Any) -> Iterator[T]:
        """Return the pages of a list, from the one of ``parameters`` to the last."""
        following: dict[str, Any] | None = {}
        while following is not None:
            parameters |= following
            page = self.call(operation, **parameters)
            yield page
            following = exchange.following(page)

    def download(self, operation: Operation[bytes], path: Path, **parameters: Any) -> None:
        """Write the content of a response to a file, which is replaced when it is complete."""
        request = request_of(operation, parameters)
        with self._streamed(request) as response, replaced(path) as file:
            for part in response.iter_bytes():
                file.write(part)

    def predict(self, model: str, rows: Any, *, top: int | None = None) -> Any:
        """Predict a data frame, or a list of rows as objects, in requests of 1,000 rows.

        Return a frame in the order of the rows for a frame; its index has the request IDs, see
        ``label``. Return the responses for a list. After an error, ``answers`` of the exception
        has the same for the rows before it.
        """
        return self._run(exchange.predict(model, rows, top))

    def submit(
        self, model: str, rows: Any, *, key: str | None = None, priority: str | None = None
    ) -> str:
        """Store a prediction as a task and return the task's ID.

        A repetition with the same key returns the same task. Without a key, each call has its own.
        """
        task: Any = self._run(exchange.submit(model, rows, key, priority))
        return str(task.task_id)

    def wait_task(self, task_id: str, seconds: float = 600) -> TaskAnswer:
        """Wait until the task has ended and return it with its result. Raises NoResult."""
        task: TaskAnswer = self._run(exchange.wait_task(task_id, seconds))
        return task

    def label(self, ids: Any, outcomes: Any, comment: str | None = None) -> list[FeedbackAnswer]:
        """Submit true outcomes: of one request ID, or of the index of predictions, row by row."""
        return self._run(exchange.label(ids, outcomes, comment))

    def train(self, model: str, /, **parameters: Any) -> Training:
        """Start a training with parameters of the model's task; see ``wait``."""
        return self._run(exchange.train(model, parameters))

    def promote(self, model: str, version: str | int, *, dry_run: bool = False) -> Promotion:
        """Ask the gate to promote a version; a dry run changes nothing. See ``wait``."""
        return self._run(exchange.promote(model, version, dry_run))

    def wait(self, job: Job, seconds: float = 3600) -> Job:
        """Wait until a training, a promotion or a batch has ended. Raises NoResult."""
        return self._run(exchange.wait(job, seconds))

    def logs(self, model: str, job: str, *, follow: bool = False) -> Iterator[str]:
        """Return the lines of a training's log; follow it until the training has ended."""
        with self._streamed(exchange.log_request(model, job, follow)) as response:
            yield from response.iter_lines()

    def declare(self, manifest: Mapping[str, Any]) -> bool:
        """Create or replace a Model; return whether it was created."""
        name = manifest["metadata"]["name"]
        reply = self.send(operations.replace_model, model=name, body=manifest)
        return reply.status_code == httpx2.codes.CREATED

    def wait_ready(self, name: str, seconds: float) -> str:
        """Wait until the Model serves as it is declared now, and return its message.

        Raises NoResult with the last message after the time.
        """
        until, message = time.monotonic() + seconds, ""
        while time.monotonic() < until:
            found = self.send(operations.get_model_declaration, model=name).json()
            message, is_done = _progress(found)
            if is_done:
                return message
            time.sleep(POLL_SECONDS)
        raise NoResult(
            f"model {name}: does not serve as declared after {seconds:g} s: "
            f"{message or 'the controller has not read it'}; slipway get {name} shows its state"
        )

    @contextmanager
    def _streamed(self, request: Request) -> Iterator[httpx2.Response]:
        """Send a request and give its successful response, whose content is not read yet."""
        response = self._run(exchange.respond(replace(request, stream=True)))
        with addressed(self.url):
            try:
                yield response
            finally:
                response.close()

    def _run(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow."""
        reply: exchange.Reply = None
        with addressed(self.url):
            while True:
                try:
                    step = flow.send(reply)
                except StopIteration as done:
                    result: T = done.value
                    return result
                if isinstance(step, float):
                    time.sleep(step)
                    reply = None
                    continue
                try:
                    reply = self._http.send(exchange.built(self._http, step), stream=step.stream)
                    if not reply.is_success:
                        reply.read()
                except (httpx2.TransportError, SlipwayError) as error:
                    reply = error


@contextmanager
def addressed(url: str) -> Iterator[None]:
    """Name the gateway in an error of its connection."""
    try:
        yield
    except (NoResponse, httpx2.TransportError) as error:
        text = (
            f"gateway {url} does not respond: {error}; check the address in SLIPWAY_URL or in the "
            "profile, and that the gateway runs"
        )
        if not isinstance(error, NoResponse):
            raise NoResponse(text) from error
        error.args = (text,)  # the same exception: it has the answers and notes of a flow
        raise


def _progress(model: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the message of a Model's state, and whether its declaration is carried out."""
    status = model["status"]
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    holds = {kind for kind, each in conditions.items() if each["status"] == "True"}
    is_current = status.get("observedGeneration", 0) >= model["metadata"].get("generation", 0)
    kind = next((each for each in ("Degraded", "Progressing") if each in holds), "Ready")
    is_done = is_current and kind == "Ready" and kind in holds
    return conditions.get(kind, {}).get("message", ""), is_done
