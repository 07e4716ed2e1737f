"""The Open Inference Protocol (V2) under ``/v2``, in plain ASGI because it is the hot path."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed

from pydantic import ValidationError
from slipway_contract.registry import CARD
from slipway_contract.v2 import ServerMetadata

from slipway_gateway.access.rules import ALL, PREDICT, PROBE, PUBLIC, Permission, Rule, Spending
from slipway_gateway.errors import JSON, Headers, Unavailable, UpstreamAborted
from slipway_gateway.http.body import Body, check_headers
from slipway_gateway.http.coding import unpacked
from slipway_gateway.http.link import Answer
from slipway_gateway.inference import binary
from slipway_gateway.inference.exchange import Exchange
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.prediction import Predictions
from slipway_gateway.inference.routing import Routes
from slipway_gateway.threads import run

Handler = Callable[[Exchange], Awaitable[None]]

EXTENSIONS = ["binary_tensor_data"]
PREDICT_VERSION = Permission("predict-version", ALL, Spending.PREDICTION)
DESCRIBE = Permission("describe", ALL)


class V2:
    """The V2 routes."""

    def __init__(
        self,
        routes: Routes,
        predictions: Predictions,
        metadata_cache: ModelMetadataCache,
        *,
        body_limit: int,
        value_limit: int,
        keep: int,
    ) -> None:
        self._routes = routes
        self._predictions = predictions
        self._metadata_cache = metadata_cache
        self._body_limit = body_limit
        self._value_limit = value_limit
        self._keep = keep
        self._metadata_of_server = ServerMetadata(
            name="slipway", version=installed("slipway-gateway"), extensions=EXTENSIONS
        ).model_dump()
        handlers: dict[Rule, Handler] = {
            PREDICT.at("POST", "/v2/models/{model}/infer"): self._infer,
            PREDICT_VERSION.at("POST", "/v2/models/{model}/versions/{version}/infer"): self._infer,
            DESCRIBE.at("GET", "/v2/models/{model}"): self._metadata,
            DESCRIBE.at("GET", "/v2/models/{model}/versions/{version}"): self._metadata,
            DESCRIBE.at("GET", "/v2/models/{model}/ready"): self._model_ready,
            DESCRIBE.at("GET", "/v2/models/{model}/versions/{version}/ready"): self._model_ready,
            Permission("server", PUBLIC).at("GET", "/v2"): self._server,
            PROBE.at("GET", "/v2/health/live"): self._live,
            PROBE.at("GET", "/v2/health/ready"): self._ready,
        }
        self.rules = tuple(handlers)
        """Rules of the routes, the most frequent first."""
        self._handlers = {(rule.method, rule.path): each for rule, each in handlers.items()}

    def __call__(self, exchange: Exchange) -> Awaitable[None]:
        rule = exchange.rule
        return self._handlers[rule.method, rule.path](exchange)

    async def _infer(self, exchange: Exchange) -> None:
        assert exchange.context is not None  # noqa: S101  (the access table requires a token here)
        names, headers = exchange.names, exchange.headers
        target = self._routes.pick(names["model"], names.get("version"))
        json_length = headers.get(binary.HEADER)
        check_headers(
            headers, self._body_limit, JSON if json_length is None else binary.CONTENT_TYPE
        )
        receive = unpacked(headers, exchange.receive, self._body_limit)
        keep = self._keep if json_length is None else self._body_limit
        body = await Body.read(receive, limit=self._body_limit, keep=keep, share=exchange.share)
        if json_length is None and not (body.whole and binary.ASKED in body.whole):
            await exchange.answer(
                await self._predictions.ask(exchange.context, target, body), target.headers
            )
            return
        packed = body.whole or b""
        read = binary.read_request
        content, wanted = await run(
            len(packed), read, packed, json_length, self._body_limit, self._value_limit
        )
        answer = await self._predictions.ask(exchange.context, target, Body(content))
        headers_of_form = await _in_form(answer, wanted) if wanted and answer.status == 200 else []
        await exchange.answer(answer, [*target.headers, *headers_of_form])

    async def _metadata(self, exchange: Exchange) -> None:
        names = exchange.names
        route = self._routes.get(names["model"])
        target = (
            route.version(names["version"]) if "version" in names else route.live or route.pick()
        )
        metadata = await self._metadata_cache.metadata(target)
        # The model card has a route of its own.
        parameters = {k: value for k, value in (metadata.parameters or {}).items() if k != CARD}
        versions = sorted(route.targets, key=_by_number)
        public = metadata.model_copy(
            update={"name": target.model, "versions": versions, "parameters": parameters or None}
        )
        await exchange.json(
            public.model_dump(mode="json", exclude_none=True), headers=target.headers
        )

    async def _model_ready(self, exchange: Exchange) -> None:
        names = exchange.names
        route = self._routes.get(names["model"])
        if "version" in names:
            route.version(names["version"])
        elif not route.ready:
            raise Unavailable(f"model {names['model']} is not ready: {route.message}")
        await exchange.json({"name": names["model"], "ready": True})

    async def _server(self, exchange: Exchange) -> None:
        await exchange.json(self._metadata_of_server)

    async def _live(self, exchange: Exchange) -> None:
        await exchange.json({"live": True})

    async def _ready(self, exchange: Exchange) -> None:
        ready = self._routes.age < float("inf")
        await exchange.json({"ready": ready}, status=200 if ready else 503)


def _by_number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdigit() else 0, version)


async def _in_form(answer: Answer, wanted: binary.Wanted) -> Headers:
    """Convert the wanted outputs to binary data; return the header with the JSON's length.

    Raises Unavailable when the response is incomplete or not V2.
    """
    try:
        content = await answer.whole()
        answer.head, length = await run(len(content), binary.write_answer, content, wanted)
    except UpstreamAborted as error:
        raise Unavailable("the model broke off its answer", retry_after=2) from error
    except ValidationError as error:
        raise Unavailable("the model returned a response that is not V2") from error
    answer.content_type = binary.CONTENT_TYPE.decode()
    return [(binary.HEADER, str(length).encode())]
