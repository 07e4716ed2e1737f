"""The client address of a request behind trusted proxies."""

from collections.abc import MutableMapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Networks = tuple[IPv4Network | IPv6Network, ...]


def read_networks(text: str) -> Networks:
    """Parse a list of networks such as ``10.0.0.0/8, fd00::/8``. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def client_address(
    scope: MutableMapping[str, Any], headers: dict[bytes, bytes], proxies: Networks
) -> str:
    """Return the nearest address outside ``proxies``; of an IPv6 address its /64 network.

    Each proxy appends its peer's address to ``X-Forwarded-For``. The header is therefore read from
    its end and only while the entries are trusted proxies: clients can forge the entries before
    them. One customer usually owns a whole /64.
    """
    client = scope.get("client")
    nearest: str = client[0] if client else ""
    hops = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",") if proxies else []
    while hops and _is_in(nearest, proxies):
        before = hops.pop().strip()
        if not _is_address(before):
            break
        nearest = before
    return _customer(nearest)


def is_from_proxy(scope: MutableMapping[str, Any], proxies: Networks) -> bool:
    """Return whether a trusted proxy has sent the request."""
    client = scope.get("client")
    return client is not None and _is_in(client[0], proxies)


def _is_in(text: str, networks: Networks) -> bool:
    if not _is_address(text):
        return False
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _customer(text: str) -> str:
    if not _is_address(text):
        return text
    address = ip_address(text)
    if not isinstance(address, IPv6Address):
        return text
    return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
