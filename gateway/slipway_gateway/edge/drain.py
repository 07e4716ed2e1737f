"""The drain of a gateway: after SIGTERM it is not ready, and still serves."""

from collections.abc import Awaitable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.errors import Unavailable

READINESS = ("/readyz", "/v2/health/ready")


@dataclass
class DrainState:
    """Whether the gateway drains; every response then closes its connection."""

    closing: bool = False


class Drain:
    """Rejects readiness probes while the gateway drains."""

    def __init__(self, app: ASGIApp, state: DrainState) -> None:
        self._app = app
        self._state = state

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if self._state.closing and scope["path"] in READINESS:
            raise Unavailable("the gateway is shutting down")
        return self._app(scope, receive, send)
