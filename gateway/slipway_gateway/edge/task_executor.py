"""The task executor: it calls the handler of a task, without repeating its authorization."""

import orjson
from slipway_contract.log import request_id as log_request_id
from starlette.types import ASGIApp, Message, Scope

from slipway_gateway.access.context import ResponseState
from slipway_gateway.access.rules import AccessTable
from slipway_gateway.edge.errors import refuse
from slipway_gateway.errors import Unavailable, UpstreamAborted
from slipway_gateway.inference.exchange import Exchange
from slipway_gateway.tasks.task import Outcome, Task
from slipway_gateway.telemetry.metrics import Metrics

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
    """Executes tasks without their authorization. Every error becomes an error response."""

    def __init__(
        self, app: ASGIApp, table: AccessTable, events: EventBuffer, metrics: Metrics
    ) -> None:
        self._app = app
        self._table = table
        self._events = events
        self._metrics = metrics

    async def answer(self, task: Task) -> Outcome:
        """Return the response of a task and its event, without storing them."""
        log_request_id.set(task.request_id)
        rule, names = self._table.match("POST", task.path)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in task.headers]
        connection = _BufferedConnection(task.body)
        receive, send = connection.receive, connection.send
        exchange = Exchange(task.request_id, rule, names, dict(headers), receive, send)
        exchange.context = task.context
        scope: Scope = {
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
            "slipway.request_id": task.request_id,
            "slipway.exchange": exchange,
            "slipway.state": ResponseState(exchange.context),
        }
        try:
            try:
                await self._app(scope, receive, send)
            except UpstreamAborted as error:
                raise Unavailable("the predictor ended its response early") from error
        except Exception as error:  # the task's edge: every error becomes a response here
            connection = _BufferedConnection(b"")
            await refuse(error, scope, connection.send, self._metrics)
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

    async def receive(self) -> Message:
        if self._request:
            return {"type": "http.request", "body": self._request.pop(), "more_body": False}
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [
                (name.decode().lower(), value.decode("latin-1"))
                for name, value in message.get("headers", [])
            ]
        else:
            self.body.append(message.get("body", b""))
