"""The middleware that sends every error as a response in the form of its API."""

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.edge.protected_resource import with_metadata
from slipway_gateway.errors import (
    Disconnected,
    GatewayError,
    UpstreamAborted,
    error_response,
    status_of,
)
from slipway_gateway.http.addresses import Networks
from slipway_gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Errors:
    """Sends an error response for every exception; the process continues."""

    def __init__(self, app: ASGIApp, metrics: Metrics, proxies: Networks) -> None:
        self._app = app
        self._metrics = metrics
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Disconnected:  # the client has closed the connection
            return
        except UpstreamAborted as error:  # uvicorn closes the connection of a partial response
            log.warning("request %s: %s", scope["slipway.request_id"], error)
        except Exception as error:  # the process's edge: every error becomes a response here
            if scope["slipway.state"].has_started:  # Starlette sends 500 and raises the error again
                log_failure(error, scope)
            else:
                await refuse(error, scope, send, self._metrics, self._proxies)
        finally:
            # It refers to the scope: a cycle, which only the garbage collector would free.
            scope.pop("slipway.exchange", None)


async def refuse(
    error: Exception, scope: Scope, send: Send, metrics: Metrics, proxies: Networks = ()
) -> None:
    """Send the error response of a request and count it; log an unexpected error."""
    if status_of(error) == 500:
        log_failure(error, scope)
    status, headers, body = error_response(error, scope["path"], scope["slipway.request_id"])
    metrics.refused(status, error.limit if isinstance(error, GatewayError) else None)
    if status == 401:
        headers = with_metadata(headers, scope, proxies)
    headers = [*headers, (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def log_failure(error: Exception, scope: Scope) -> None:
    """Log an unexpected error with its traceback."""
    log.error(
        "request %s failed: %s %s",
        scope["slipway.request_id"],
        scope["method"],
        scope["path"],
        exc_info=error,
    )
