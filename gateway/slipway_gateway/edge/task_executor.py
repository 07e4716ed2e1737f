"""Execution of a task through the edge middleware, without repeating its authorization."""

from collections.abc import MutableMapping
from typing import Any

import orjson
from slipway_contract.log import request_id as log_request_id

from slipway_gateway.access.rules import match
from slipway_gateway.edge.dispatch import EdgeMiddleware
from slipway_gateway.errors import Unavailable, UpstreamAborted
from slipway_gateway.inference.v2 import Exchange
from slipway_gateway.tasks.task import Outcome, Task

SHOWN = ("content-type", "inference-header-content-length")


class EventBuffer:
    """An event sink for workers, which store the event in the transaction of the task's result."""

    def __init__(self) -> None:
        self._lines: dict[str, bytes] = {}

    def check(self) -> None:
        """Accept any event: the buffer has no limit."""

    def append(self, line: bytes) -> None:
        self._lines[orjson.loads(line)["requestId"]] = line

    def take(self, request_id: str) -> bytes | None:
        """Remove and return the event of the request's last attempt; None if there is none."""
        return self._lines.pop(request_id, None)


class TaskExecutor:
    """Executes tasks. Every error becomes an error response."""

    def __init__(self, edge: EdgeMiddleware, events: EventBuffer) -> None:
        self._edge = edge
        self._events = events

    async def answer(self, task: Task) -> Outcome:
        """Return the response of a task and its event, without storing them."""
        log_request_id.set(task.request_id)
        rule, names = match("POST", task.path)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in task.headers]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": "POST",
            "path": task.path,
            "raw_path": task.path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": headers,
            "client": None,
            "server": None,
            "slipway.context": task.context,
            "slipway.route": rule.path,
        }
        connection = _BufferedConnection(task.body)
        exchange = Exchange(
            task.request_id,
            scope["slipway.context"],
            names,
            dict(headers),
            connection.receive,
            connection.send,
        )
        try:
            try:
                await self._edge.answer(exchange, rule, scope)
            except UpstreamAborted as error:
                raise Unavailable("the predictor ended its response early") from error
        except Exception as error:  # the task's edge: every error becomes a response here
            connection = _BufferedConnection(b"")
            await self._edge.refuse(error, task.request_id, scope, connection.send)
        stored = [
            [name, value]
            for name, value in connection.headers
            if name in SHOWN or name.startswith("slipway-")
        ]
        event = self._events.take(task.request_id)
        return Outcome(connection.status, stored, b"".join(connection.body), event)


class _BufferedConnection:
    """An ASGI connection with a given request body that collects the response in memory."""

    def __init__(self, request: bytes) -> None:
        self._request: list[bytes] = [request]
        self.status = 500
        self.headers: list[tuple[str, str]] = []
        self.body: list[bytes] = []

    async def receive(self) -> MutableMapping[str, Any]:
        if self._request:
            return {"type": "http.request", "body": self._request.pop(), "more_body": False}
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [
                (name.decode().lower(), value.decode("latin-1"))
                for name, value in message.get("headers", [])
            ]
        else:
            self.body.append(message.get("body", b""))
