"""URLs in requests, parsed once: the checked parts are those that are connected to.

URL parsers differ: for one a backslash belongs to the host, for another it ends the host; one
decodes ``%6c`` and maps ``ⓛ`` to ``l``, another does not. Therefore a URL is split once, its host
must be plain after IDNA, and the URL to connect to is joined from those parts.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import idna

PORTS = {"http": 80, "https": 443}
MAX_LENGTH = 8192
HOST = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""Last label that makes the host an IPv4 address for some parsers: ``0x7f.1``, ``2130706433``."""
KEPT = "/%:@!$&'()*+,;=-._~"
"""Characters of a path that are not escaped (RFC 3986, section 3.3), and escapes."""
IPV4_IN_IPV6 = [
    ipaddress.ip_network(each)
    for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
]
"""IPv6 networks whose addresses contain an IPv4 address, which may be any."""


@dataclass(frozen=True)
class HttpUrl:
    """The parts of an http or https URL without user and fragment."""

    scheme: str
    host: str
    """A lower-case ASCII name without a trailing dot, or an IP address without brackets."""
    port: int
    target: str
    """Path and query, in ASCII."""

    @property
    def is_address(self) -> bool:
        """True when the host is an IP address."""
        return ":" in self.host or bool(NUMBER.fullmatch(self.host.rpartition(".")[2]))

    def at(self, host: str) -> str:
        """Return the URL with another host, such as a resolved address."""
        return f"{self.scheme}://{self._authority(host)}{self.target}"

    @property
    def authority(self) -> str:
        """Host and port, as in the header ``Host``."""
        return self._authority(self.host)

    def _authority(self, host: str) -> str:
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"[{host}]{port}" if ":" in host else host + port

    def __str__(self) -> str:
        return self.at(self.host)


def read_url(text: str) -> HttpUrl:
    """Return the parts of a URL; raise ValueError with a predicate, "is not a URL"."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in PORTS or not host or not text.isprintable() or " " in text:
        raise ValueError("is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user or a password in it")
    if "%" in host:
        raise ValueError("has an escape or a zone in its host")
    if port == 0:
        raise ValueError("is not a URL: port 0 cannot be connected to")
    target = quote(parts.path, KEPT) or "/"
    query = f"?{quote(parts.query, KEPT + '?')}" if parts.query else ""
    return HttpUrl(parts.scheme, _host(host), port or PORTS[parts.scheme], target + query)


def _host(text: str) -> str:
    try:
        if ":" in text:
            return _ipv6(text)
        name = text.lower()
        if not name.isascii() or "xn--" in name:
            name = idna.encode(name, uts46=True).decode().lower()
        name = name.removesuffix(".")
    except ValueError:  # idna.IDNAError, too
        raise ValueError(f"{text!r} is not a host") from None
    if len(name) > 253 or not HOST.fullmatch(name):
        raise ValueError(
            f"{text!r} is not a host: write a name of letters a-z, digits, hyphens and dots, "
            "or an IP address"
        )
    if NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise ValueError(
                f"{name} is not a public host: write an IP address as four decimal numbers"
            ) from None
    return name


def _ipv6(text: str) -> str:
    """Return an IPv6 address as the URL standard serializes it. Raises ValueError."""
    address = ipaddress.IPv6Address(text)
    # from Python 3.13 on, str() ends it with an IPv4 address, which clients of the standard do not
    if address.ipv4_mapped:
        value = int(address.ipv4_mapped)
        return f"::ffff:{value >> 16:x}:{value & 0xFFFF:x}"
    return str(address)


def is_public(address: str) -> bool:
    """Return True for an address of the public internet that contains no other address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # with a zone, as fe80::1%eth0
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.version == 6 and any(ip in network for network in IPV4_IN_IPV6):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
