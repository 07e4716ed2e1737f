"""Asynchronous predictions: ``Prefer: respond-async`` (RFC 7240) stores a task and returns 202."""

import hashlib
import logging
import re
from datetime import UTC, datetime

import orjson
from python_multipart.multipart import parse_options_header
from slipway_contract.errors import InvalidInput

from slipway_gateway.access.context import RequestContext
from slipway_gateway.errors import JSON, Forbidden, KeyReused, TooManyTasks, Unavailable
from slipway_gateway.http.body import Body, check_headers
from slipway_gateway.http.coding import unpacked
from slipway_gateway.inference import binary
from slipway_gateway.inference.exchange import Exchange
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.routing import Routes
from slipway_gateway.inference.schemas import AcceptedTask, PredictionRequest
from slipway_gateway.limits.policy import Priority
from slipway_gateway.preprocessing.cells import check_cells
from slipway_gateway.preprocessing.lookup import Features
from slipway_gateway.tasks.store import TaskStore
from slipway_gateway.tasks.task import WEIGHT, Task, TaskState, caller_of
from slipway_gateway.threads import run

log = logging.getLogger(__name__)

PREDICTIONS = frozenset({"predict", "predict-version"})
"""Names of the rules with asynchronous responses."""
RESPOND_ASYNC = re.compile(rb"(?:^|,)\s*respond-async\s*(?:$|[;,])", re.IGNORECASE)
FORM = b"multipart/form-data"
STORED_HEADERS = (b"content-type", b"content-encoding", binary.HEADER)
"""Request headers that the response depends on."""
KEY = re.compile(rb"[\x21-\x7e]{1,255}")
RETRY_AFTER = b"1"


class AsyncPredictions:
    """Validates predictions and stores them as tasks. A worker may still find an error."""

    def __init__(
        self,
        routes: Routes,
        metadata_cache: ModelMetadataCache,
        features: Features,
        store: TaskStore,
        *,
        body_limit: int,
        value_limit: int,
        per_caller: int,
    ) -> None:
        self._routes = routes
        self._metadata_cache = metadata_cache
        self._features = features
        self._store = store
        self._body_limit = body_limit
        self._value_limit = value_limit
        self._per_caller = per_caller

    def requested(self, exchange: Exchange) -> bool:
        """Return True for a prediction that prefers an asynchronous response.

        Other preferences are ignored, as RFC 7240 requires.
        """
        preference = exchange.headers[b"prefer"]
        return exchange.rule.name in PREDICTIONS and RESPOND_ASYNC.search(preference) is not None

    async def accept(self, exchange: Exchange, path: str) -> None:
        """Store the prediction as a task and send 202 with its location.

        The worker alone decodes the images of a form.

        Raises NotFound, InvalidInput, Forbidden, KeyReused, TooManyTasks, Unavailable, and the
        errors of ``Body.read``.
        """
        headers, context = exchange.headers, exchange.context
        assert context is not None  # noqa: S101  (the access table requires a token)
        route = self._routes.get(exchange.names["model"])
        if version := exchange.names.get("version"):
            route.version(version)
        named = path.startswith("/v1")
        content_type = JSON if binary.HEADER not in headers else binary.CONTENT_TYPE
        check_headers(headers, self._body_limit, FORM if named else content_type)
        body = await Body.read(
            exchange.receive, limit=self._body_limit, keep=self._body_limit, share=exchange.share
        )
        content = body.whole or b""
        if named and not headers.get(b"content-type", b"").lower().startswith(FORM):
            await self._check(content, exchange, context)
        task = _task(context, exchange.names["model"], path, headers, content)
        if await self._store.unfinished(context.caller.subject) >= self._per_caller:
            raise TooManyTasks(self._per_caller)
        found = await self._store.add(task)
        if found.fingerprint != task.fingerprint:
            raise KeyReused
        if found.task_id == task.task_id and context.permit:  # a repetition is free of charge
            context.permit.count()
        log.info("task %s of model %s is %s", found.task_id, found.model, found.state)
        location = f"/v1/tasks/{found.task_id}"
        answer = AcceptedTask(task_id=found.task_id, state=found.state, location=location)
        more = [
            (b"location", location.encode()),
            (b"preference-applied", b"respond-async"),
            (b"retry-after", RETRY_AFTER),
        ]
        await exchange.json(
            answer.model_dump(by_alias=True),
            status=202,
            headers=[*more, (b"cache-control", b"no-store")],
        )

    async def _check(self, content: bytes, exchange: Exchange, context: RequestContext) -> None:
        """Validate named features against the signature of an available version, if there is one.

        Raises InvalidInput, TooManyValues.
        """

        async def once() -> dict[str, object]:
            return {"type": "http.request", "body": content}

        receive, limit = unpacked(exchange.headers, once, self._body_limit), self._body_limit
        decoded = await Body.read(receive, limit=limit, keep=limit, share=exchange.share)
        text = decoded.whole or b""
        request = await run(len(text), PredictionRequest.of_body, text, self._value_limit)
        try:
            signature = await self._metadata_cache.signature(
                self._routes.pick(exchange.names["model"])
            )
            check_cells(signature, len(request.instances), self._value_limit)
            rows, _ = await self._features.rows(
                exchange.names["model"], signature, request.instances
            )
        except Unavailable:
            return
        await run(len(text), signature.request, rows, context.request_id)


def _task(
    context: RequestContext, model: str, path: str, headers: dict[bytes, bytes], content: bytes
) -> Task:
    key = headers.get(b"idempotency-key")
    if key is not None and not KEY.fullmatch(key):
        raise InvalidInput("Idempotency-Key", "is not 1 to 255 printable ASCII characters")
    stored = [
        [name.decode(), headers[name].decode("latin-1")]
        for name in STORED_HEADERS
        if name in headers
    ]
    priority = _priority(headers.get(b"slipway-priority"), context)
    now = datetime.now(UTC)
    return Task(
        task_id=context.request_id,
        request_id=context.request_id,
        subject=context.caller.subject,
        caller=caller_of(context),
        decision=context.decision,
        model=model,
        path=path,
        headers=stored,
        body=content,
        priority=priority,
        key=key.decode() if key else None,
        fingerprint=_fingerprint(orjson.dumps([path, stored, priority]) + content, headers),
        state=TaskState.QUEUED,
        attempts=0,
        created=now,
        due=now,
    )


def _fingerprint(request: bytes, headers: dict[bytes, bytes]) -> str:
    """Return the digest of a request, without the boundary that a client draws for each form."""
    kind, options = parse_options_header(headers.get(b"content-type", b""))
    boundary = options.get(b"boundary") if kind == FORM else None
    return hashlib.sha256(request.replace(boundary, b"") if boundary else request).hexdigest()


def _priority(header: bytes | None, context: RequestContext) -> Priority:
    """Return the priority of the header, or by default that of the caller's policy.

    Raises InvalidInput, and Forbidden for a priority above that of the policy.
    """
    own = context.grant.policy.priority if context.grant else Priority.NORMAL
    if header is None:
        return own
    try:
        priority = Priority(header.decode("latin-1").lower())
    except ValueError:
        raise InvalidInput("Slipway-Priority", f"is not one of {', '.join(Priority)}") from None
    if WEIGHT[priority] > WEIGHT[own]:
        raise Forbidden(f"Slipway-Priority: {priority} exceeds {own}, the priority of your policy")
    return priority
