"""Keys of an issuer that accepts requests and does not respond."""

import asyncio

import pytest
from slipway_gateway.errors import Unavailable
from slipway_gateway.http.upstream import Upstream
from slipway_gateway.identity.keys import WAITING as MOST
from slipway_gateway.identity.keys import IssuerKeys

WAITING = 20
PATIENCE = 2.0
"""Timeout of the issuer in seconds."""


class Hanging:
    """A server that counts connections and sends nothing."""

    def __init__(self) -> None:
        self.asked = 0

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        try:
            while await reader.read(2**16):
                pass
        finally:
            writer.close()

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._take, "127.0.0.1", 0)


async def _wait_together(
    refetch_seconds: float, count: int = WAITING
) -> tuple[int, list[BaseException | None]]:
    """Request an unknown key concurrently; return the number of fetches and the results."""
    issuer = Hanging()
    upstream = Upstream(timeout=PATIENCE, connect_timeout=PATIENCE)
    async with await issuer.listen() as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        keys = IssuerKeys(
            url, url, upstream.json, refresh_seconds=60, refetch_seconds=refetch_seconds
        )
        waiting = (keys.find("unknown", "RS256") for _ in range(count))
        ends = await asyncio.wait_for(
            asyncio.gather(*waiting, return_exceptions=True), PATIENCE * WAITING * 2
        )
        await upstream.close()
    return issuer.asked, [end if isinstance(end, BaseException) else None for end in ends]


def test_concurrent_requests_for_a_hanging_issuer_share_one_timeout() -> None:
    # Less than the timeout: counted from the start of the fetch, it would have passed for
    # each request.
    asked, ends = asyncio.run(_wait_together(refetch_seconds=PATIENCE * 0.8))
    assert asked == 1
    assert [type(end) for end in ends] == [Unavailable] * WAITING


@pytest.mark.slow
def test_the_number_of_requests_that_wait_for_keys_is_limited() -> None:
    _, ends = asyncio.run(_wait_together(refetch_seconds=60, count=MOST + 10))
    assert sum("too many requests wait" in str(end) for end in ends) == 10
