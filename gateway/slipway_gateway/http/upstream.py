"""The HTTP client (pyreqwest) for small documents of predictors and of the identity provider."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import orjson
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError, RequestTimeoutError

DOCUMENT_LIMIT = 16 * 2**20
"""Maximum size of a document in bytes."""


class Upstream:
    """A client for infrequent requests; predictions have a pool of their own (see pool.py)."""

    def __init__(self, *, timeout: float, connect_timeout: float) -> None:
        builder = (
            ClientBuilder()
            .timeout(timedelta(seconds=timeout))
            .connect_timeout(timedelta(seconds=connect_timeout))
        )
        self._client: Client = builder.no_proxy().follow_redirects(False).referer(False).build()

    async def close(self) -> None:
        await self._client.close()

    async def json(self, url: str, headers: Mapping[str, str] = MappingProxyType({})) -> Any:
        """Return a small JSON document by GET. Raises OSError with a message for any failure."""
        status, content = await self.send("GET", url, {"accept": "application/json", **headers})
        if status != 200:
            raise ConnectionError(f"{url} answered {status}")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise ConnectionError(f"{url} did not answer with JSON") from None

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Send a small request and return status and content of the response.

        Raises OSError with a message for any failure.
        """
        builder = self._client.request(method, url).headers(headers)
        content = bytearray()
        try:
            async with (
                builder.body_bytes(body) if body is not None else builder
            ).build_streamed() as response:
                while (chunk := await response.body_reader.read_chunk()) is not None:
                    content += chunk.to_bytes()
                    if len(content) > DOCUMENT_LIMIT:
                        raise ConnectionError(f"{url} answered more than {DOCUMENT_LIMIT} bytes")
        except RequestTimeoutError:
            raise TimeoutError(f"{url} did not answer in time") from None
        except RequestError:
            raise ConnectionError(f"{url} cannot be reached") from None
        return response.status, bytes(content)
