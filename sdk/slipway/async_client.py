"""The client of the gateway for an event loop: ``await AsyncClient().predict("churn", frame)``."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from slipway import exchange
from slipway.client import Authorization, Token, addressed, connection
from slipway.errors import SlipwayError
from slipway.exchange import TIMEOUT, Flow, Job, Request, replaced, request_of
from slipway.operations import Operation
from slipway.responses import FeedbackAnswer, Promotion, TaskAnswer, Training

T = TypeVar("T")


class AsyncAuthorization(Authorization):
    """The Authorization header; the token is renewed in a thread."""

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Add the header."""
        request.headers["Authorization"] = await asyncio.to_thread(self._header)
        yield request


class AsyncClient:
    """As ``slipway.Client``, method by method; an asynchronous context manager."""

    def __init__(
        self,
        url: str | None = None,
        token: str | Token | None = None,
        *,
        profile: str | None = None,
    ) -> None:
        self.url, provider = connection(url, token, profile)
        self._http = httpx2.AsyncClient(
            base_url=self.url, auth=AsyncAuthorization(provider), timeout=TIMEOUT
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(
        self, operation: Operation[T], *, body: Any = None, files: Any = None, **parameters: Any
    ) -> T:
        """Send an operation and return its response."""
        request = request_of(operation, parameters, body, files)
        return await self._run(exchange.call(operation, request))

    async def send(
        self, operation: Operation[Any], *, body: Any = None, files: Any = None, **parameters: Any
    ) -> httpx2.Response:
        """Send an operation and return the HTTP response."""
        request = request_of(operation, parameters, body, files)
        return await self._run(exchange.respond(request))

    async def pages(self, operation: Operation[T], **parameters: Any) -> AsyncIterator[T]:
        """Return the pages of a list, from the one of ``parameters`` to the last."""
        following: dict[str, Any] | None = {}
        while following is not None:
            parameters |= following
            page = await self.call(operation, **parameters)
            yield page
            following = exchange.following(page)

    async def download(self, operation: Operation[bytes], path: Path, **parameters: Any) -> None:
        """Write the content of a response to a file, which is replaced when it is complete."""
        request = request_of(operation, parameters)
        async with self._streamed(request) as response:
            with replaced(path) as file:
                async for part in response.aiter_bytes():
                    file.write(part)

    async def predict(self, model: str, rows: Any, *, top: int | None = None) -> Any:
        """Predict a data frame, or a list of rows as objects, in requests of 1,000 rows."""
        return await self._run(exchange.predict(model, rows, top))

    async def submit(
        self, model: str, rows: Any, *, key: str | None = None, priority: str | None = None
    ) -> str:
        """Store a prediction as a task and return the task's ID."""
        task: Any = await self._run(exchange.submit(model, rows, key, priority))
        return str(task.task_id)

    async def wait_task(self, task_id: str, seconds: float = 600) -> TaskAnswer:
        """Wait until the task has ended and return it with its result."""
        task: TaskAnswer = await self._run(exchange.wait_task(task_id, seconds))
        return task

    async def label(
        self, ids: Any, outcomes: Any, comment: str | None = None
    ) -> list[FeedbackAnswer]:
        """Submit true outcomes: of one request ID, or of the index of predictions, row by row."""
        return await self._run(exchange.label(ids, outcomes, comment))

    async def train(self, model: str, /, **parameters: Any) -> Training:
        """Start a training with parameters of the model's task."""
        return await self._run(exchange.train(model, parameters))

    async def promote(self, model: str, version: str | int, *, dry_run: bool = False) -> Promotion:
        """Ask the gate to promote a version; a dry run changes nothing."""
        return await self._run(exchange.promote(model, version, dry_run))

    async def wait(self, job: Job, seconds: float = 3600) -> Job:
        """Wait until a training, a promotion or a batch has ended."""
        return await self._run(exchange.wait(job, seconds))

    async def logs(self, model: str, job: str, *, follow: bool = False) -> AsyncIterator[str]:
        """Return the lines of a training's log; follow it until the training has ended."""
        async with self._streamed(exchange.log_request(model, job, follow)) as response:
            async for line in response.aiter_lines():
                yield line

    @asynccontextmanager
    async def _streamed(self, request: Request) -> AsyncIterator[httpx2.Response]:
        """Send a request and give its successful response, whose content is not read yet."""
        response = await self._run(exchange.respond(replace(request, stream=True)))
        with addressed(self.url):
            try:
                yield response
            finally:
                await response.aclose()

    async def _run(self, flow: Flow[T]) -> T:
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
                    await asyncio.sleep(step)
                    reply = None
                    continue
                try:
                    reply = await self._http.send(
                        exchange.built(self._http, step), stream=step.stream
                    )
                    if not reply.is_success:
                        await reply.aread()
                except (httpx2.TransportError, SlipwayError) as error:
                    reply = error
