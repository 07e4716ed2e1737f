"""Client of the predictors: endpoint selection, credential, and one retry at another endpoint."""

from collections.abc import Mapping
from typing import Any

from slipway_gateway.errors import Unreachable
from slipway_gateway.http.body import Body
from slipway_gateway.http.link import Answer
from slipway_gateway.http.pool import Pool
from slipway_gateway.http.upstream import Upstream
from slipway_gateway.inference.endpoints import Endpoints
from slipway_gateway.inference.routing import Target


class Predictors:
    """Client of all predictors. It sends the gateway's own ``token``, never the caller's."""

    def __init__(
        self, upstream: Upstream, pool: Pool, endpoints: Endpoints, token: str | None
    ) -> None:
        self._upstream = upstream
        self._pool = pool
        self._endpoints = endpoints
        self._credential = {"authorization": f"Bearer {token}"} if token else {}
        self._fixed = _lines({"content-type": "application/json", **self._credential})

    def pods(self, target: Target) -> int:
        """Return the number of pods of a version."""
        return self._endpoints.count(target.kubernetes_service)

    async def infer(
        self, target: Target, body: Body, request_id: str, trace: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the version's response to an inference request.

        A request whose connection fails before the response is retried once, if possible at another
        endpoint; inference is idempotent. Raises Unavailable, UpstreamTimeout, and the errors of
        reading ``body``.
        """
        headers = f"{self._fixed}x-request-id: {request_id}\r\n{_lines(trace) if trace else ''}"
        failed = None
        while True:
            endpoint = self._endpoints.choose(target.kubernetes_service, target.endpoint, failed)
            endpoint.under_way += 1
            try:
                head = (
                    f"POST {endpoint.prefix}{target.infer_path} HTTP/1.1\r\n"
                    f"host: {endpoint.host}\r\n{headers}"
                )
                return await self._pool.post(endpoint.origin, head.encode("latin-1"), body)
            except Unreachable:
                endpoint.set_aside()
                if failed or not body.can_repeat:
                    raise
                failed = endpoint
            finally:
                endpoint.under_way -= 1

    async def metadata(self, target: Target) -> Any:
        """Return the V2 metadata of the version as parsed JSON. Raises OSError with a message."""
        return await self._upstream.json(target.metadata_url, self._credential)


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
