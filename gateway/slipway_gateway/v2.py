"""The Open Inference Protocol under ``/v2``, in plain ASGI: the hot path."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from importlib.metadata import version as installed
from typing import Any

import orjson
from slipway_contract.v2 import ServerMetadata

from slipway_gateway.access import Rule
from slipway_gateway.body import Body, Receive, check_headers
from slipway_gateway.catalogue import Catalogue
from slipway_gateway.errors import JSON, Headers, Unavailable
from slipway_gateway.prediction import Call, Predictions
from slipway_gateway.routing import Routes

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request and the way back to its caller."""

    __slots__ = ("call", "headers", "names", "receive", "request_id", "send")

    def __init__(
        self, request_id: str, call: Call | None, names: dict[str, str], headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        self.request_id = request_id
        self.call = call
        self.names = names
        self.headers = headers
        self.receive = receive
        self.send = send

    async def start(self, status: int, headers: Headers) -> None:
        all_headers = [(b"x-request-id", self.request_id.encode()), *headers]
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})

    async def json(self, content: object, status: int = 200, headers: Headers | None = None) -> None:
        body = orjson.dumps(content)
        length = str(len(body)).encode()
        await self.start(status, [(b"content-type", JSON), (b"content-length", length), *(headers or [])])
        await self.send({"type": "http.response.body", "body": body})


class V2:
    """Handlers by the path of their rule in the access table."""

    def __init__(self, routes: Routes, predictions: Predictions, catalogue: Catalogue, *, body_limit: int, keep: int) -> None:
        self._routes = routes
        self._predictions = predictions
        self._catalogue = catalogue
        self._body_limit = body_limit
        self._keep = keep
        self.handlers: dict[tuple[str, str], Handler] = {
            ("POST", "/v2/models/{model}/infer"): self._infer,
            ("POST", "/v2/models/{model}/versions/{version}/infer"): self._infer,
            ("GET", "/v2/models/{model}"): self._metadata,
            ("GET", "/v2/models/{model}/versions/{version}"): self._metadata,
            ("GET", "/v2/models/{model}/ready"): self._model_ready,
            ("GET", "/v2/models/{model}/versions/{version}/ready"): self._model_ready,
            ("GET", "/v2"): self._server,
            ("GET", "/v2/health/live"): self._live,
            ("GET", "/v2/health/ready"): self._ready,
        }

    async def __call__(self, rule: Rule, exchange: Exchange) -> None:
        await self.handlers[rule.method, rule.path](exchange)

    async def _infer(self, exchange: Exchange) -> None:
        assert exchange.call is not None  # noqa: S101  (the access table asks for a token here)
        names = exchange.names
        target = self._routes.pick(names["model"], names.get("version"))
        check_headers(exchange.headers, self._body_limit)
        body = await Body.read(exchange.receive, limit=self._body_limit, keep=self._keep)
        answer = await self._predictions.ask(exchange.call, target, body)
        headers = [(b"content-type", answer.content_type.encode()), *target.headers]
        if answer.rest is None:
            await exchange.start(answer.status, [*headers, (b"content-length", str(len(answer.head)).encode())])
            await exchange.send({"type": "http.response.body", "body": answer.head})
            return
        async with aclosing(answer.rest) as rest:
            await exchange.start(answer.status, headers)
            await exchange.send({"type": "http.response.body", "body": answer.head, "more_body": True})
            async for chunk in rest:
                await exchange.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await exchange.send({"type": "http.response.body", "body": b""})

    async def _metadata(self, exchange: Exchange) -> None:
        names = exchange.names
        route = self._routes.get(names["model"])
        target = route.version(names["version"]) if "version" in names else route.live or route.pick()
        said = await self._catalogue.metadata(target)
        public = said.model_copy(update={"name": target.model, "versions": sorted(route.targets, key=_by_number)})
        await exchange.json(public.model_dump(mode="json", exclude_none=True), headers=target.headers)

    async def _model_ready(self, exchange: Exchange) -> None:
        names = exchange.names
        route = self._routes.get(names["model"])
        if "version" in names:
            route.version(names["version"])
        elif not route.ready:
            raise Unavailable(f"model {names['model']} is not ready: {route.message}")
        await exchange.json({"name": names["model"], "ready": True})

    async def _server(self, exchange: Exchange) -> None:
        await exchange.json(ServerMetadata(name="slipway", version=installed("slipway-gateway")).model_dump())

    async def _live(self, exchange: Exchange) -> None:
        await exchange.json({"live": True})

    async def _ready(self, exchange: Exchange) -> None:
        ready = self._routes.age < float("inf")
        await exchange.json({"ready": ready}, status=200 if ready else 503)


def _by_number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdigit() else 0, version)
