"""``Prefer: respond-async`` (RFC 7240) on a prediction: it is written down as a task and answered
202.
"""

import hashlib
import logging
import re
from datetime import UTC, datetime

import orjson
from slipway_contract.errors import InvalidInput

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.rules import Rule
from slipway_gateway.control.schemas import PredictionRequest
from slipway_gateway.errors import JSON, Forbidden, KeyReused, TooManyTasks, Unavailable
from slipway_gateway.http.body import Body, check_headers
from slipway_gateway.http.coding import unpacked
from slipway_gateway.inference import binary
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.routing import Routes
from slipway_gateway.inference.v2 import Exchange
from slipway_gateway.limits.policy import Priority
from slipway_gateway.preprocessing.cells import check_cells
from slipway_gateway.preprocessing.lookup import Features
from slipway_gateway.tasks.store import TaskStore
from slipway_gateway.tasks.task import WEIGHT, Task, TaskState, caller_of
from slipway_gateway.threads import run

log = logging.getLogger(__name__)

PREDICTIONS = frozenset({"predict", "predict-version"})
"""Names of the rules that may be answered later."""
ASKED = re.compile(rb"(?:^|,)\s*respond-async\s*(?:$|[;,])", re.IGNORECASE)
KEPT = (b"content-type", b"content-encoding", binary.HEADER)
"""Headers that the answer depends on."""
KEY = re.compile(rb"[\x21-\x7e]{1,255}")
RETRY_AFTER = b"1"


class AsyncPredictions:
    """What can be known to be wrong is refused at once; the rest is for a worker to find out."""

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

    def asked(self, rule: Rule, headers: dict[bytes, bytes]) -> bool:
        """Whether this is a prediction that may come later. Another preference is no error."""
        return rule.name in PREDICTIONS and ASKED.search(headers[b"prefer"]) is not None

    async def accept(self, exchange: Exchange, path: str) -> None:
        """Raises NotFound, InvalidInput, Forbidden, TooManyTasks, Unavailable, and what reading the
        body raises.
        """
        headers, context = exchange.headers, exchange.context
        assert context is not None  # noqa: S101  (the access table asks for a token here)
        route = self._routes.get(exchange.names["model"])
        if version := exchange.names.get("version"):
            route.version(version)
        wanted = JSON if binary.HEADER not in headers else binary.CONTENT_TYPE
        check_headers(headers, self._body_limit, wanted)
        body = await Body.read(
            exchange.receive, limit=self._body_limit, keep=self._body_limit, share=exchange.share
        )
        content = body.whole or b""
        if path.startswith("/v1"):
            await self._check(content, exchange, context)
        task = _task(context, exchange.names["model"], path, headers, content)
        if await self._store.unfinished(context.caller.subject) >= self._per_caller:
            raise TooManyTasks(self._per_caller)
        found = await self._store.add(task)
        if found.fingerprint != task.fingerprint:
            raise KeyReused
        if found.task_id == task.task_id and context.permit:  # a repetition costs nothing
            context.permit.count()
        log.info("task %s of model %s is %s", found.task_id, found.model, found.state)
        location = f"/v1/tasks/{found.task_id}"
        answer = {"taskId": found.task_id, "state": found.state, "location": location}
        more = [
            (b"location", location.encode()),
            (b"preference-applied", b"respond-async"),
            (b"retry-after", RETRY_AFTER),
        ]
        await exchange.json(answer, status=202, headers=[*more, (b"cache-control", b"no-store")])

    async def _check(self, content: bytes, exchange: Exchange, context: RequestContext) -> None:
        """Named features by the signature of a version that would be asked now, if one can be."""

        async def once() -> dict[str, object]:
            return {"type": "http.request", "body": content}

        receive, limit = unpacked(exchange.headers, once, self._body_limit), self._body_limit
        plain = await Body.read(receive, limit=limit, keep=limit, share=exchange.share)
        text = plain.whole or b""
        asked = await run(len(text), PredictionRequest.of_body, text, self._value_limit)
        try:
            signature = await self._metadata_cache.signature(
                self._routes.pick(exchange.names["model"])
            )
            check_cells(signature, len(asked.instances), self._value_limit)
            rows, _ = await self._features.rows(signature, asked.instances)
        except Unavailable:
            return
        await run(len(text), signature.request, rows, context.request_id)


def _task(
    context: RequestContext, model: str, path: str, headers: dict[bytes, bytes], content: bytes
) -> Task:
    key = headers.get(b"idempotency-key")
    if key is not None and not KEY.fullmatch(key):
        raise InvalidInput("Idempotency-Key", "is not 1 to 255 printable ASCII characters")
    kept = [[name.decode(), headers[name].decode("latin-1")] for name in KEPT if name in headers]
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
        headers=kept,
        body=content,
        priority=priority,
        key=key.decode() if key else None,
        fingerprint=hashlib.sha256(orjson.dumps([path, kept, priority]) + content).hexdigest(),
        state=TaskState.QUEUED,
        attempts=0,
        created=now,
        due=now,
    )


def _priority(said: bytes | None, context: RequestContext) -> Priority:
    """That of the caller's policy, or a lower one that is asked for."""
    own = context.grant.policy.priority if context.grant else Priority.NORMAL
    if said is None:
        return own
    try:
        asked = Priority(said.decode("latin-1").lower())
    except ValueError:
        raise InvalidInput("Slipway-Priority", f"is not one of {', '.join(Priority)}") from None
    if WEIGHT[asked] > WEIGHT[own]:
        raise Forbidden(f"Slipway-Priority: your policy for this model gives {own}, not {asked}")
    return asked
