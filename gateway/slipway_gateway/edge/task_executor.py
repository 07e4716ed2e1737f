"""Answers a task as its request would have been answered: by the same door, without the token that
was checked before.
"""

from collections.abc import MutableMapping
from typing import Any

import orjson
from slipway_contract.log import request_id as log_request_id

from slipway_gateway.access.rules import match
from slipway_gateway.edge.middleware import EdgeMiddleware
from slipway_gateway.errors import Unavailable, UpstreamAborted
from slipway_gateway.inference.v2 import Exchange
from slipway_gateway.tasks.task import Outcome, Task

SHOWN = ("content-type", "inference-header-content-length")


class EventBuffer:
    """In place of the spool: a worker writes an event together with the task's answer, or not at
    all.
    """

    def __init__(self) -> None:
        self._lines: dict[str, bytes] = {}

    def check(self) -> None:
        """There is always room."""

    def append(self, line: bytes) -> None:
        self._lines[orjson.loads(line)["requestId"]] = line

    def take(self, request_id: str) -> bytes | None:
        """The event of a request; of several attempts the last one's."""
        return self._lines.pop(request_id, None)


class TaskExecutor:
    """Whatever goes wrong is an answer, too."""

    def __init__(self, door: EdgeMiddleware, notes: EventBuffer) -> None:
        self._door = door
        self._notes = notes

    async def answer(self, task: Task) -> Outcome:
        """The answer and its event; nothing is written anywhere."""
        log_request_id.set(task.request_id)
        rule, names = match("POST", task.path)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in task.headers]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
        }
        scope |= {
            "method": "POST",
            "path": task.path,
            "raw_path": task.path.encode(),
            "root_path": "",
            "query_string": b"",
        }
        scope |= {
            "headers": headers,
            "client": None,
            "server": None,
            "slipway.context": task.context,
            "slipway.route": rule.path,
        }
        got = _Answer(task.body)
        exchange = Exchange(
            task.request_id, scope["slipway.context"], names, dict(headers), got.receive, got.send
        )
        try:
            try:
                await self._door.answer(exchange, rule, scope)
            except UpstreamAborted as error:
                raise Unavailable("the model broke off its answer") from error
        except Exception as error:  # the task's edge: every error becomes an answer here
            got = _Answer(b"")
            await self._door.refuse(error, task.request_id, scope, got.send)
        kept = [
            [name, value]
            for name, value in got.headers
            if name in SHOWN or name.startswith("slipway-")
        ]
        return Outcome(got.status, kept, b"".join(got.body), self._notes.take(task.request_id))


class _Answer:
    """Both ends of an ASGI connection."""

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
