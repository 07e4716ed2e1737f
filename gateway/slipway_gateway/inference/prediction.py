"""The one way in which a prediction is made, whoever asked and in whichever form: version, answer,
event.
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
    """Where events go before an answer does."""

    def check(self) -> None:
        """Raises Unavailable when there is no room."""

    def append(self, line: bytes) -> None:
        """Raises Unavailable."""


class Predictions:
    """An answer that names a version is in the log, and it is in the log before its first byte is
    sent.
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
        self._lines: defaultdict[str, AdmissionQueue] = defaultdict(lambda: AdmissionQueue(bounds))
        """By the version's InferenceService; none before those that nobody asks, so that a version
        that left leaves nothing.
        """
        self._spool = spool
        self._metrics = metrics
        self._cache = cache
        self._log_body_limit = log_body_limit

    async def ask(self, context: RequestContext, target: Target, body: Body) -> Answer:
        """The version's answer with the public name of the model, logged.

        Raises GatewayError, logged as well when it is about the version, and Disconnected. One that
        was not let in to the version is in no log: it cost next to nothing, and so it should
        remain.
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
        service = target.traffic.service
        line = self._lines[service]
        await line.enter(self._predictors.pods(target))
        try:
            return await self._asked(context, target, body)
        finally:
            line.leave()
            if line.is_idle:
                del self._lines[service]

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn, of all models."""
        return sum(map(len, self._lines.values()))

    async def _asked(self, context: RequestContext, target: Target, body: Body) -> Answer:
        try:
            answer = await self._predictors.infer(target, body, context.request_id, context.trace)
        except GatewayError as error:
            self._record(context, target, error.status, body.whole, v2_error(error)[2])
            error.headers = [*error.headers, *target.headers]
            raise
        _speak_for(target, answer)
        self._record(
            context, target, answer.status, body.whole, answer.head if answer.rest is None else None
        )
        return answer

    def _record(
        self,
        context: RequestContext,
        target: Target,
        status: int,
        request: bytes | None,
        response: bytes | None,
    ) -> None:
        """One PredictionEvent of the contract, as the JSON line that the database reads."""
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
        }
        self._spool.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
        if (
            context.permit and status < HTTPStatus.INTERNAL_SERVER_ERROR
        ):  # as the ledger does, which reads the event
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
        """A body as the log keeps it; None when it is too large. PostgreSQL's text has no NUL."""
        if body is None or len(body) > self._log_body_limit:
            return None
        text = body.decode("utf-8", "replace")
        return text.replace("\0", "\ufffd") if "\0" in text else text


def _speak_for(target: Target, answer: Answer) -> None:
    """Make the predictor's answer the model's: its public name, and errors in the protocol's
    form.
    """
    if answer.status >= 400:
        _say_error(answer)
    elif found := target.own_name.match(answer.head):
        answer.head = found[1] + b'"' + target.model.encode() + b'"' + answer.head[found.end() :]
    elif answer.rest is None:
        answer.head = _renamed(target, answer.head)


def _renamed(target: Target, body: bytes) -> bytes:
    """For a predictor that does not begin with the name, as all known ones do."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(content, dict) or content.get("model_name") != target.traffic.service:
        return body
    return orjson.dumps({**content, "model_name": target.model})


def _say_error(answer: Answer) -> None:
    """The predictor's text stays; only its envelope is made V2's where it is something else."""
    if answer.rest is not None:
        return
    text = error_text(answer.head)
    answer.content_type = JSON.decode()
    answer.head = orjson.dumps({"error": text})


def error_text(body: bytes) -> str:
    """What a V2 error says; the body itself when it is not one."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
    error = content.get("error", content.get("detail")) if isinstance(content, dict) else content
    return error if isinstance(error, str) else orjson.dumps(error).decode()
