"""Requests to addresses that callers name. A URL may lead anywhere, also to our neighbours; so its host is resolved here, every
address must be public, and the address that was looked at is the one that is dialled.

Signed as Standard Webhooks says (https://www.standardwebhooks.com): HMAC-SHA256 of ``id.timestamp.body``.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError
from pyreqwest.request import StreamRequest
from slipway_contract.errors import InvalidInput

TIMEOUT = timedelta(seconds=10)
DOWNLOAD_TIMEOUT = timedelta(minutes=5)
EMBEDDED = [ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")]
"""IPv6 addresses that stand for an IPv4 address, which may be any."""


class NotDelivered(Exception):
    """The other side did not take it; ``str()`` says why, in words that its owner may read."""


@dataclass(frozen=True)
class Place:
    """A URL whose host was looked up and found good."""

    url: str
    host: str
    address: str
    port: int


class Outbound:
    """Messages go to ``allowed`` hosts whatever their address, and to public ones; files come from ``sources`` alone."""

    def __init__(self, allowed: frozenset[str], sources: frozenset[str] = frozenset()) -> None:
        self._allowed = allowed
        self._sources = sources

    async def check(self, field: str, url: str, allowed: frozenset[str] | None = None) -> Place:
        """Raises InvalidInput naming the field."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise InvalidInput(field, "is not a URL") from None
        if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
            raise InvalidInput(field, "is not an http or https URL")
        if parts.username is not None or parts.password is not None:
            raise InvalidInput(field, "has a user or a password in it")
        addresses = await _resolved(field, host, port)
        if host not in (self._allowed if allowed is None else allowed) and not all(map(is_public, addresses)):
            raise InvalidInput(field, f"{host} is not a public host")
        return Place(url, host, addresses[0], port)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, read: int = 0) -> bytes:
        """The first ``read`` bytes of the answer. Raises NotDelivered unless it is 2xx. A redirect is not followed."""
        try:
            place = await self.check("url", url)
        except InvalidInput as error:
            raise NotDelivered(str(error)) from None
        builder = ClientBuilder().no_proxy().follow_redirects(False).referer(False).timeout(TIMEOUT).connect_timeout(TIMEOUT / 2)
        # A literal address is dialled as it is; a name goes to the address that was looked at, with no second lookup.
        builder = builder.resolve(place.host, place.address, place.port)
        try:
            async with builder.build() as client, _request(client, url, body, headers) as response:
                status, answer = response.status, b""
                while len(answer) < read and (chunk := await response.body_reader.read_chunk()) is not None:
                    answer += chunk.to_bytes()
        except RequestError:
            raise NotDelivered(f"{place.host} cannot be reached") from None
        if not 200 <= status < 300:
            raise NotDelivered(f"{place.host} answered {status}")
        return answer[:read]

    async def download(self, field: str, url: str) -> AsyncIterator[bytes]:
        """A file from one of ``sources``, by https. Raises InvalidInput naming the field, at the first piece or later."""
        place = await self.check(field, url, self._sources)
        if place.host not in self._sources or not url.lower().startswith("https://"):
            raise InvalidInput(field, f"is not https from one of {', '.join(sorted(self._sources)) or 'no hosts at all'}")
        builder = ClientBuilder().no_proxy().follow_redirects(False).referer(False).timeout(DOWNLOAD_TIMEOUT)
        builder = builder.connect_timeout(TIMEOUT).resolve(place.host, place.address, place.port)
        try:
            async with builder.build() as client, client.get(url).build_streamed() as response:
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


def is_public(address: str) -> bool:
    """Whether the address is one of the open internet, and is not another one in disguise."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # with a zone, as fe80::1%eth0
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.version == 6 and any(ip in network for network in EMBEDDED):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def signed(secret: bytes, message_id: str, body: bytes) -> dict[str, str]:
    """The headers of a message."""
    moment = str(int(time.time()))
    digest = hmac.new(secret, b".".join([message_id.encode(), moment.encode(), body]), hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    names = {"webhook-id": message_id, "webhook-timestamp": moment, "webhook-signature": signature}
    return {"content-type": "application/json", "user-agent": "slipway", **names}
