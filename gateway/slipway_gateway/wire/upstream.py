"""The door to pyreqwest: calls to predictors and to the identity provider."""

from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import orjson
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import NetworkError, RequestError, RequestTimeoutError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from slipway_gateway.errors import CutOff, Unavailable, Unreachable, UpstreamTimeout
from slipway_gateway.wire.body import Body


class Answer:
    """A predictor's answer: ``head`` is all of it unless ``rest`` gives more."""

    __slots__ = ("content_type", "head", "rest", "status")

    def __init__(self, status: int, content_type: str, head: bytes, rest: AsyncGenerator[bytes, None] | None) -> None:
        self.status = status
        self.content_type = content_type
        self.head = head
        self.rest = rest

    async def whole(self) -> bytes:
        """The complete body in memory. Raises CutOff."""
        if self.rest is not None:
            self.head = b"".join([self.head, *[chunk async for chunk in self.rest]])
            self.rest = None
        return self.head


class Upstream:
    """A pool of connections. Bodies stream through in both directions; only the first ``head_limit`` bytes are kept."""

    def __init__(self, *, timeout: float, connect_timeout: float, head_limit: int) -> None:
        self._head_limit = head_limit
        builder = ClientBuilder().timeout(timedelta(seconds=timeout)).connect_timeout(timedelta(seconds=connect_timeout))
        # Predictors are neighbours: no proxy, no redirects, and bodies pass as they are.
        builder = builder.no_proxy().follow_redirects(False).referer(False)
        self._client: Client = builder.gzip(False).brotli(False).zstd(False).deflate(False).build()

    async def close(self) -> None:
        await self._client.close()

    async def json(self, url: str, headers: Mapping[str, str] = MappingProxyType({})) -> Any:
        """GET of a small JSON document. Raises OSError with a sentence, whatever went wrong."""
        status, content = await self.send("GET", url, {"accept": "application/json", **headers})
        if status != 200:
            raise ConnectionError(f"{url} answered {status}")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise ConnectionError(f"{url} did not answer with JSON") from None

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> tuple[int, bytes]:
        """A small request and its whole answer: status and content. Raises OSError with a sentence."""
        builder = self._client.request(method, url).headers(headers)
        request = builder.body_bytes(body).build() if body is not None else builder.build()
        try:
            response = await request.send()
            content = await response.bytes()
        except RequestTimeoutError:
            raise TimeoutError(f"{url} did not answer in time") from None
        except RequestError:
            raise ConnectionError(f"{url} cannot be reached") from None
        return response.status, content.to_bytes()

    async def post(self, url: str, body: Body, headers: Mapping[str, str]) -> Answer:
        """Send the body. Raises Unreachable, Unavailable, UpstreamTimeout, and what reading the body raises."""
        try:
            return await self._attempt(url, body, headers)
        except RequestError as error:
            raise self._explained(error, body) from None

    @staticmethod
    def _explained(error: RequestError, body: Body) -> Exception:
        if body.failure is not None:
            return body.failure
        if _connection_failed(error):
            return Unreachable("the model cannot be reached", retry_after=2)
        if isinstance(error, RequestTimeoutError):
            return UpstreamTimeout("the model did not answer in time")
        return Unavailable("the model cannot be reached", retry_after=2)

    async def _attempt(self, url: str, body: Body, headers: Mapping[str, str]) -> Answer:
        builder = self._client.post(url).headers(headers)
        builder = builder.body_bytes(body.whole) if body.whole is not None else builder.body_stream(body.stream())
        request = builder.build_streamed()
        response = await request.__aenter__()
        try:
            head, complete = await self._read_head(response)
        except BaseException:
            await request.__aexit__(None, None, None)
            raise
        content_type = response.get_header("content-type") or "application/json"
        if complete:
            await request.__aexit__(None, None, None)
            return Answer(response.status, content_type, head, None)
        return Answer(response.status, content_type, head, _rest(request, response))

    async def _read_head(self, response: Response) -> tuple[bytes, bool]:
        """The first bytes, and whether they are all. Reading to the end is cheaper than leaving before it."""
        reader, head = response.body_reader, b""
        while (chunk := await reader.read_chunk()) is not None:
            head = head + chunk.to_bytes() if head else chunk.to_bytes()
            if len(head) > self._head_limit:
                return head, False
        return head, True


def _connection_failed(error: RequestError) -> bool:
    """pyreqwest calls every timeout before an answer's headers a ConnectTimeoutError; only the causes tell the two apart."""
    causes = error.details["causes"] or []
    return isinstance(error, NetworkError) or any(cause["message"] == "client error (Connect)" for cause in causes)


async def _rest(request: StreamRequest, response: Response) -> AsyncGenerator[bytes, None]:
    try:
        while (chunk := await response.body_reader.read_chunk()) is not None:
            yield chunk.to_bytes()
    except RequestError as error:
        raise CutOff("the model broke off its answer") from error
    finally:
        await request.__aexit__(None, None, None)
