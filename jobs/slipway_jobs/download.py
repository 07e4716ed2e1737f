"""Downloads from URLs with a check of every host.

A URL, and each one that it redirects to, may name a private host of the cluster. Therefore every
host must be public or allowed by name, and the client connects to the address that was checked.
"""

import socket
from collections.abc import Iterator
from urllib.parse import urljoin

import httpx
from slipway.errors import Refused
from slipway_contract.url import HttpUrl, is_public, read_url

REDIRECTS = 5
CHUNK = 2**20


def download(text: str, hosts: frozenset[str], timeout: float) -> Iterator[bytes]:
    """Yield the content of a URL in parts.

    ``hosts`` may have any address. ``timeout`` is in seconds, for the connection and for each part.
    Raises Refused when a host is not public, on any status but 200, and when the server is
    unreachable.
    """
    location = text
    with httpx.Client(timeout=timeout, follow_redirects=False) as client:
        for _ in range(REDIRECTS + 1):
            url, address = _checked(location, hosts)
            pinned = client.build_request(
                "GET",
                url.at(address),
                headers={"Host": url.authority},
                extensions={"sni_hostname": url.host},
            )
            try:
                response = client.send(pinned, stream=True)
                if response.has_redirect_location:
                    location = urljoin(str(url), response.headers["location"])
                    response.close()
                    continue
                if response.status_code != httpx.codes.OK:
                    raise Refused(f"{location} returned status {response.status_code}")
                yield from response.iter_bytes(CHUNK)
            except httpx.HTTPError as error:
                raise Refused(
                    f"{location} cannot be fetched: {error or type(error).__name__}"
                ) from error
            return
    raise Refused(f"{text} redirects more than {REDIRECTS} times")


def _checked(text: str, hosts: frozenset[str]) -> tuple[HttpUrl, str]:
    """Parse the URL and return it with an address of its host. Raises Refused."""
    try:
        url = read_url(text)
    except ValueError as error:
        raise Refused(f"{text} {error}") from None
    addresses = [url.host] if url.is_address else _resolved(url)
    if url.host not in hosts and not all(map(is_public, addresses)):
        raise Refused(
            f"{text} cannot be fetched: {url.host} is not a public host; name it in "
            "SLIPWAY_IMPORT_HOSTS to allow it"
        )
    return url, addresses[0]


def _resolved(url: HttpUrl) -> list[str]:
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused(f"{url} cannot be fetched: {url.host} has no address") from None
    return [str(each[4][0]) for each in found]
