"""The client for URLs from callers, with protection against server-side request forgery (SSRF).

It resolves the host itself, requires all addresses to be public, connects to the address that it
checked, and builds the URL from the checked parts (see slipway_contract.url).

Webhook messages are signed by Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 of
``id.timestamp.body``.
"""

import asyncio
import base64
import hashlib
import hmac
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError
from pyreqwest.http import Url
from pyreqwest.request import StreamRequest
from slipway_contract.errors import InvalidInput
from slipway_contract.url import HttpUrl, is_public, read_url

TIMEOUT = timedelta(seconds=10)
DOWNLOAD_TIMEOUT = timedelta(minutes=5)


class NotDelivered(Exception):
    """The receiver did not accept a message; ``str()`` is the reason, which its owner may read."""


@dataclass(frozen=True)
class ResolvedUrl:
    """A URL with a permitted host, and the address to connect to."""

    url: HttpUrl
    address: str

    @property
    def host(self) -> str:
        return self.url.host


class Outbound:
    """A client for messages to public hosts and to the ``allowed`` ones, and for downloads from
    ``sources``.
    """

    def __init__(self, allowed: frozenset[str], sources: frozenset[str] = frozenset()) -> None:
        self._allowed = allowed
        self._sources = sources

    async def check(
        self, field: str, url: str, allowed: frozenset[str] | None = None
    ) -> ResolvedUrl:
        """Resolve and validate a URL. Raises InvalidInput with the field's name."""
        try:
            read = read_url(url)
            dialled = Url(str(read)).host_str
        except ValueError as error:
            raise InvalidInput(field, str(error)) from None
        if dialled is None or dialled.strip("[]") != read.host:
            raise InvalidInput(field, f"has an ambiguous host: {read.host} or {dialled}")
        addresses = [read.host] if read.is_address else await _resolved(field, read.host, read.port)
        if read.host not in (self._allowed if allowed is None else allowed) and not all(
            map(is_public, addresses)
        ):
            raise InvalidInput(field, f"{read.host} is not a public host")
        return ResolvedUrl(read, addresses[0])

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, read: int = 0
    ) -> bytes:
        """Send a message and return the first ``read`` bytes of the response.

        Redirects are not followed. Raises NotDelivered unless the status is 2xx.
        """
        try:
            place = await self.check("url", url)
        except InvalidInput as error:
            raise NotDelivered(str(error)) from None
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT / 2)
        )
        # The client uses the checked address without a second lookup.
        builder = builder.resolve(place.host, place.address, place.url.port)
        try:
            async with (
                builder.build() as client,
                _request(client, str(place.url), body, headers) as response,
            ):
                status, content, reader = response.status, b"", response.body_reader
                while len(content) < read and (chunk := await reader.read_chunk()) is not None:
                    content += chunk.to_bytes()
        except RequestError:
            raise NotDelivered(f"{place.host} cannot be reached") from None
        if not 200 <= status < 300:
            raise NotDelivered(f"{place.host} answered {status}")
        return content[:read]

    async def download(self, field: str, url: str) -> AsyncIterator[bytes]:
        """Yield the chunks of a file from one of ``sources``, by https.

        Raises InvalidInput with the field's name at the first chunk or later.
        """
        place = await self.check(field, url, self._sources)
        if place.host not in self._sources or place.url.scheme != "https":
            raise InvalidInput(
                field,
                f"is not https from one of {', '.join(sorted(self._sources)) or 'no hosts at all'}",
            )
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .timeout(DOWNLOAD_TIMEOUT)
        )
        builder = builder.connect_timeout(TIMEOUT).resolve(
            place.host, place.address, place.url.port
        )
        try:
            async with (
                builder.build() as client,
                client.get(str(place.url)).build_streamed() as response,
            ):
                if response.status != 200:
                    raise InvalidInput(field, f"{place.host} answered {response.status}")
                while (chunk := await response.body_reader.read_chunk()) is not None:
                    yield chunk.to_bytes()
        except RequestError:
            raise InvalidInput(field, f"{place.host} cannot be reached") from None


def _request(client: Client, url: str, body: bytes, headers: Mapping[str, str]) -> StreamRequest:
    return client.post(url).headers(dict(headers)).body_bytes(body).build_streamed()


async def _resolved(field: str, host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise InvalidInput(field, f"{host} has no address") from None
    return [str(each[4][0]) for each in found]


def signed(secret: bytes, message_id: str, body: bytes) -> dict[str, str]:
    """Return the headers of a message, including its signature."""
    moment = str(int(time.time()))
    digest = hmac.new(
        secret, b".".join([message_id.encode(), moment.encode(), body]), hashlib.sha256
    ).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    names = {"webhook-id": message_id, "webhook-timestamp": moment, "webhook-signature": signature}
    return {"content-type": "application/json", "user-agent": "slipway", **names}
