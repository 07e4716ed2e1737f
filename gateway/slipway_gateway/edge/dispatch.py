"""The ASGI entry: request id, access table and authorization, then V2 or the control API."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from slipway_contract.log import request_id as log_request_id

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.rules import PUBLIC, Rule, match
from slipway_gateway.edge.async_predictions import AsyncPredictions
from slipway_gateway.edge.authenticator import Authenticator
from slipway_gateway.edge.authorizer import Authorizer
from slipway_gateway.errors import (
    JSON,
    Disconnected,
    Forbidden,
    GatewayError,
    Headers,
    Unavailable,
    UpstreamAborted,
    problem,
    status_of,
    v2_error,
)
from slipway_gateway.http.body import Body, Receive, check_headers, declared_length
from slipway_gateway.http.bodybudget import BodyBudget
from slipway_gateway.http.coding import unpacked
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.inference.v2 import V2, Exchange, Scope, Send
from slipway_gateway.requestid import new_id
from slipway_gateway.telemetry.metrics import Metrics
from slipway_gateway.telemetry.tracing import passed_on

log = logging.getLogger(__name__)

FORM = b"multipart/form-data"
PIECE = 2**16
"""Bytes of a form that are parsed without returning to the event loop."""
CONTROL_BODY_LIMIT = 2**16
"""Maximum size in bytes of a body that is neither a prediction nor streamed, such as a policy."""
STREAMED = frozenset({"batch"})
"""Rules whose handlers read and limit the body themselves."""

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
NO_STORE = (b"cache-control", b"no-store")
LAST = (b"connection", b"close")
WITH_BODY = ("POST", "PUT", "PATCH")
READINESS = ("/readyz", "/v2/health/ready")


class EdgeMiddleware:
    """The ASGI application, which rejects every request that the access table does not contain.

    After ``closing`` is set, readiness is false and every response closes its connection; requests
    are still served.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        v2: V2,
        control: Application,
        async_predictions: AsyncPredictions,
        metrics: Metrics,
        bodies: BodyBudget,
        *,
        body_limit: int,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self.v2 = v2
        self._control = control
        self._metrics = metrics
        self._bodies = bodies
        self._async_predictions = async_predictions
        self._body_limit = body_limit
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._control(scope, receive, send)
        elif scope["type"] == "http":
            request_id = new_id()
            log_request_id.set(request_id)
            if self.closing:
                send = _last_on_connection(send)
            if scope["method"] == "HEAD":
                send = _without_content(send)
            try:
                await self._admit(request_id, scope, receive, send)
            except Disconnected:  # the client has closed the connection
                return
            except UpstreamAborted as error:  # uvicorn closes the connection of a partial response
                log.warning("request %s: %s", request_id, error)
            except Exception as error:  # the process's edge: every error becomes a response here
                await self.refuse(error, request_id, scope, send)

    async def _admit(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        rule, names = match(scope["method"], path)
        scope["slipway.route"] = rule.path
        if self.closing and path in READINESS:
            raise Unavailable("the gateway is shutting down")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        authenticated = rule.roles is not PUBLIC or (
            rule.optional_authentication and b"authorization" in headers
        )
        context = None
        if authenticated:
            context = await self._authorize(request_id, rule, names, scope, headers)
        elif rule.spends is not None:
            self._authorizer.admit_anonymous(self._authenticator.address(scope, headers))
        scope["slipway.context"] = context
        share = self._bodies.share(
            context.caller.subject if context else None, declared_length(headers)
        )
        exchange = Exchange(request_id, context, names, headers, receive, send, share)
        try:
            deferred = context is not None and b"prefer" in headers
            if deferred and self._async_predictions.requested(rule, headers):
                await self._async_predictions.accept(exchange, path)
            else:
                await self.answer(exchange, rule, scope)
        finally:
            share.release()
            if context is not None:
                self._authorizer.leave(context)

    async def answer(self, exchange: Exchange, rule: Rule, scope: Scope) -> None:
        """Send the response of an authorized request, also of a task that was stored earlier.

        Raises any error; ``refuse`` sends the error response.
        """
        if rule.path.startswith("/v2"):
            await self.v2(rule, exchange)
            return
        receive = exchange.receive
        if rule.method in WITH_BODY and rule.name not in STREAMED:
            is_prediction = rule.name == "predict"
            limit = self._body_limit if is_prediction else min(CONTROL_BODY_LIMIT, self._body_limit)
            receive = await _whole(exchange, limit, FORM if is_prediction else JSON)
        scope["slipway.request_id"] = exchange.request_id
        await self._answer(exchange.request_id, scope, receive, exchange.send)

    async def _answer(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the control API and add the request id and caching headers to the response."""
        id_header = (b"x-request-id", request_id.encode())
        answered, started = False, time.perf_counter()

        async def with_id(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                seconds = time.perf_counter() - started
                self._metrics.answered(
                    scope["method"], scope["slipway.route"], message["status"], seconds
                )
                given: Headers = message.get("headers", [])
                caching = [] if any(name == b"cache-control" for name, _ in given) else [NO_STORE]
                message["headers"] = [*given, id_header, *caching, *_granted(scope)]
            await send(message)

        try:
            # FastAPI's GET routes do not accept HEAD. The server uses its scope, so it is copied.
            await self._control(
                {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, receive, with_id
            )
        except Exception:  # Starlette sends 500 and raises the error again
            if not answered:
                raise
            log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])

    async def _authorize(
        self,
        request_id: str,
        rule: Rule,
        names: dict[str, str],
        scope: Scope,
        headers: dict[bytes, bytes],
    ) -> RequestContext:
        """Return the context of an authenticated and authorized request.

        Raises Unauthenticated, Forbidden, TooMany, TooManyAtOnce, Unavailable.
        """
        caller = await self._authenticator.caller(scope, headers)
        decision = rule.decision(caller.roles)
        if decision is None:
            raise _lacks_role(rule, caller)
        if rule.confirmed:
            caller = await self._confirmed(rule, caller)
        protocol = "v2" if rule.path.startswith("/v2") else "v1"
        context = RequestContext(request_id, caller, decision, protocol, passed_on(headers))
        if protocol == "v1":
            context.address = self._authenticator.address(scope, headers)
        await self._authorizer.admit(context, rule, names.get("model"))
        return context

    async def _confirmed(self, rule: Rule, caller: Caller) -> Caller:
        """Return the caller after the identity provider has confirmed a sufficient role.

        Raises Unauthenticated, Forbidden, Unavailable.
        """
        caller = await self._authenticator.confirm_now(caller)
        if rule.decision(caller.roles) is None:
            needed = " or ".join(sorted(rule.roles or ()))
            confirmed = ", ".join(sorted(caller.roles)) or "none"
            raise Forbidden(
                f"this requires the role {needed}; the identity provider confirms {confirmed} for "
                f"{caller.account}"
            )
        return caller

    async def refuse(self, error: Exception, request_id: str, scope: Scope, send: Send) -> None:
        """Send the error response of a request, in the format of its API, and log a 500."""
        if status_of(error) == 500:
            log.error(
                "request %s failed: %s %s",
                request_id,
                scope["method"],
                scope["path"],
                exc_info=error,
            )
        path: str = scope["path"]
        status, headers, body = (
            v2_error(error) if path.startswith("/v2") else problem(error, path, request_id)
        )
        self._metrics.refused(status, error.limit if isinstance(error, GatewayError) else None)
        headers = [(b"x-request-id", request_id.encode()), NO_STORE, *_granted(scope), *headers]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _whole(exchange: Exchange, limit: int, content_type: bytes) -> Receive:
    """Read a body of the control API within ``limit`` bytes and return a function that replays it.

    Raises TooLarge, UnsupportedType, TooManyAtOnce, NoMemory.
    """
    headers = exchange.headers
    check_headers(headers, limit, content_type)
    receive = unpacked(headers, exchange.receive, limit)
    body = (await Body.read(receive, limit=limit, keep=limit, share=exchange.share)).whole or b""
    # The form parser is written in Python; pieces bound the time that it blocks the event loop.
    size = PIECE if headers.get(b"content-type", b"").lower().startswith(FORM) else len(body)
    pieces = iter(
        [body[start : start + size] for start in range(0, len(body), size)] if size else [b""]
    )
    left = len(body)

    async def replay() -> MutableMapping[str, Any]:
        nonlocal left
        piece = next(pieces, None)
        if piece is None:
            return await receive()
        left -= len(piece)
        if left:
            await asyncio.sleep(0)
        return {"type": "http.request", "body": piece, "more_body": left > 0}

    return replay


def _granted(scope: Scope) -> Headers:
    """Return the response headers of the request's context, such as the RateLimit fields."""
    context: RequestContext | None = scope.get("slipway.context")
    return context.headers if context else []


def _lacks_role(rule: Rule, caller: Caller) -> Forbidden:
    needed = " or ".join(sorted(rule.roles or ()))
    if caller.withdrawn:
        groups = ", ".join(caller.withdrawn)[:200]
        return Forbidden(
            f"this requires the role {needed}; the identity provider does not list "
            f"{caller.account} in the groups {groups} of the token"
        )
    found = ", ".join(caller.groups[:5]) + (", …" if len(caller.groups) > 5 else "")
    return Forbidden(
        f"this requires the role {needed}; your token has "
        f"{', '.join(sorted(caller.roles)) or 'none'}. "
        f"Roles are read from the token's claim {caller.claim.path}, which contains "
        f"{found[:200] or 'no group'}"
    )


def _without_content(send: Send) -> Send:
    """Return a send function that drops the response body, for HEAD."""

    async def headers_alone(message: MutableMapping[str, Any]) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return headers_alone


def _last_on_connection(send: Send) -> Send:
    """Return a send function that adds ``connection: close`` to the response."""

    async def closing(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), LAST]
        await send(message)

    return closing
