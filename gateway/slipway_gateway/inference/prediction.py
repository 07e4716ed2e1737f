"""The common path of all predictions, independent of API and body format.

It sends the request to the predictor, adapts the response and logs one event.
"""

import logging
import time
from collections import defaultdict
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol

import orjson

from slipway_gateway.access.context import RequestContext
from slipway_gateway.errors import JSON, GatewayError, v2_error
from slipway_gateway.http.body import Body
from slipway_gateway.http.link import Answer
from slipway_gateway.inference.admission_queue import AdmissionQueue, Bounds
from slipway_gateway.inference.predictors import Predictors
from slipway_gateway.inference.response_cache import CacheKey, ResponseCache
from slipway_gateway.inference.routing import Target
from slipway_gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class EventSink(Protocol):
    """A durable store of events, written before the response is sent."""

    def check(self) -> None:
        """Raise Unavailable when the store is full."""

    def append(self, line: bytes) -> None:
        """Store one event, a line of JSON. Raises Unavailable."""


class Predictions:
    """Predictions of all models.

    Every response that names a version is logged before its first byte is sent.
    """

    def __init__(
        self,
        predictors: Predictors,
        spool: EventSink,
        metrics: Metrics,
        cache: ResponseCache,
        *,
        bounds: Bounds,
        log_body_limit: int,
    ) -> None:
        self._predictors = predictors
        self._queues: defaultdict[str, AdmissionQueue] = defaultdict(lambda: AdmissionQueue(bounds))
        """Queues by the version's InferenceService. An idle queue is deleted, so that former
        versions occupy no memory.
        """
        self._spool = spool
        self._metrics = metrics
        self._cache = cache
        self._log_body_limit = log_body_limit

    async def ask(self, context: RequestContext, target: Target, body: Body) -> Answer:
        """Return the version's response with the public name of the model, and log it.

        Raises Disconnected and GatewayError. Errors of the version are logged as well; a request
        that the queue rejects is not, so that rejections stay cheap.
        """
        self._spool.check()
        seconds = context.grant.policy.cache_seconds if context.grant else None
        if not seconds:
            return await self._in_turn(context, target, body)
        found = await self._cache.find(
            CacheKey.of(target, body, seconds), lambda: self._in_turn(context, target, body)
        )
        context.headers = [*context.headers, (b"cache-status", found.status)]
        if not found.computed:
            self._record(context, target, found.answer.status, body.whole, found.answer.head)
        return found.answer

    async def _in_turn(self, context: RequestContext, target: Target, body: Body) -> Answer:
        """Wait in the admission queue, then return the version's response, and log it."""
        service = target.traffic.service
        queue = self._queues[service]
        await queue.enter(self._predictors.pods(target))
        try:
            answer = await self._predictors.infer(target, body, context.request_id, context.trace)
        except GatewayError as error:
            self._record(context, target, error.status, body.whole, v2_error(error)[2])
            error.headers = [*error.headers, *target.headers]
            raise
        finally:
            queue.leave()
            if queue.is_idle:
                del self._queues[service]
        _adapt(target, answer)
        self._record(
            context, target, answer.status, body.whole, answer.head if answer.rest is None else None
        )
        return answer

    @property
    def waiting(self) -> int:
        """Number of requests in the queues of all models."""
        return sum(map(len, self._queues.values()))

    def _record(
        self,
        context: RequestContext,
        target: Target,
        status: int,
        request: bytes | None,
        response: bytes | None,
    ) -> None:
        """Append a PredictionEvent of the contract as the JSON line that the database reads."""
        seconds = time.perf_counter() - context.started
        traffic = target.traffic
        event = {
            "requestId": context.request_id,
            "time": datetime.fromtimestamp(context.arrived, UTC),
            "model": target.model,
            "version": traffic.version,
            "digest": traffic.digest,
            "runId": traffic.run_id,
            "role": traffic.role,
            "subject": context.caller.subject,
            "decision": context.decision,
            "protocol": context.protocol,
            "status": status,
            "latencyMs": round(seconds * 1000, 3),
            "request": self._text(request),
            "response": self._text(response),
            "policy": context.grant.policy.name if context.grant else None,
            "lease": context.permit.lease_id if context.permit else None,
            "verified": traffic.verified,
        }
        self._spool.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
        # The quota ledger counts the same way from the event.
        if context.permit and status < HTTPStatus.INTERNAL_SERVER_ERROR:
            context.permit.count()
        self._metrics.predicted(target.model, traffic.version, status, seconds, context.request_id)
        log.info(
            "model %s version %s answered %d in %.1f ms",
            target.model,
            traffic.version,
            status,
            seconds * 1000,
        )

    def _text(self, body: bytes | None) -> str | None:
        """Return a body as text for the event log; None when it is too large.

        NUL becomes U+FFFD, because PostgreSQL's text type excludes it.
        """
        if body is None or len(body) > self._log_body_limit:
            return None
        text = body.decode("utf-8", "replace")
        return text.replace("\0", "\ufffd") if "\0" in text else text


def _adapt(target: Target, answer: Answer) -> None:
    """Set the model's public name in the predictor's response, or the V2 form of an error."""
    if answer.status >= 400:
        _adapt_error(answer)
    elif found := target.own_name.match(answer.head):
        answer.head = found[1] + b'"' + target.model.encode() + b'"' + answer.head[found.end() :]
    elif answer.rest is None:
        answer.head = _renamed(target, answer.head)


def _renamed(target: Target, body: bytes) -> bytes:
    """Set the model's public name in a response that does not begin with ``model_name``."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(content, dict) or content.get("model_name") != target.traffic.service:
        return body
    return orjson.dumps({**content, "model_name": target.model})


def _adapt_error(answer: Answer) -> None:
    """Put the predictor's error text into a V2 error body."""
    if answer.rest is not None:
        return
    text = error_text(answer.head)
    answer.content_type = JSON.decode()
    answer.head = orjson.dumps({"error": text})


def error_text(body: bytes) -> str:
    """Return the message of a V2 error; the whole body when it has another form."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
    error = content.get("error", content.get("detail")) if isinstance(content, dict) else content
    return error if isinstance(error, str) else orjson.dumps(error).decode()
