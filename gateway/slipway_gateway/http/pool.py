"""The pool of idle connections to predictors, by origin."""

import asyncio
import ssl
from functools import cached_property
from urllib.parse import urlsplit

from slipway_gateway.errors import Unavailable, Unreachable, UpstreamTimeout
from slipway_gateway.http.body import Body
from slipway_gateway.http.link import Answer, Broken, Link, NotHttp, ResponseTimeout

IDLE_SECONDS = 4.0
"""Maximum idle time of a connection; servers close theirs after 5 s (uvicorn) or later."""


class Pool:
    """A connection pool with streaming in both directions.

    Only the first ``head_limit`` bytes of a response are buffered.
    """

    def __init__(self, *, timeout: float, connect_timeout: float, head_limit: int) -> None:
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._head_limit = head_limit
        self._idle: dict[str, list[Link]] = {}

    async def close(self) -> None:
        for links in list(self._idle.values()):
            for link in list(links):
                link.close()

    async def post(self, origin: str, head: bytes, body: Body) -> Answer:
        """Send a request over an idle or a new connection and return the response.

        Raises Unreachable, Unavailable, UpstreamTimeout, and the errors of reading ``body``.
        """
        until = asyncio.get_running_loop().time() + self._timeout
        try:
            free = self._idle.get(origin)
            if free:
                try:
                    return await free.pop().post(head, body, until)
                except Broken as error:  # the server may have closed the idle connection
                    if error.started or not body.can_repeat:
                        raise
            link = await self._connect(origin)
            return await link.post(head, body, until)
        except ResponseTimeout:
            raise UpstreamTimeout("the model did not answer in time") from None
        except NotHttp:
            raise Unavailable("the model cannot be reached", retry_after=2) from None
        except (Broken, OSError):
            raise Unreachable("the model cannot be reached", retry_after=2) from None

    async def _connect(self, origin: str) -> Link:
        """Open a connection. Raises OSError, also after the connect timeout."""
        parts = urlsplit(origin)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)

        def link() -> Link:
            idle = min(IDLE_SECONDS, self._timeout)
            return Link(
                head_limit=self._head_limit,
                idle_seconds=idle,
                on_idle=lambda link: self._idle.setdefault(origin, []).append(link),
                on_closed=lambda link: self._remove(origin, link),
            )

        async with asyncio.timeout(self._connect_timeout):
            loop = asyncio.get_running_loop()
            _, made = await loop.create_connection(
                link, parts.hostname or "", port, ssl=self._tls if secure else None
            )
        return made

    def _remove(self, origin: str, link: Link) -> None:
        idle = self._idle.get(origin)
        if idle and link in idle:
            idle.remove(link)
        if not idle:
            self._idle.pop(origin, None)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()
