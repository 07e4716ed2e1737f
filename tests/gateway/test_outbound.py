"""URLs from callers: the HTTP client connects to the host that was checked."""

import asyncio

from hypothesis import given, settings
from pyreqwest.http import Url
from slipway_contract.errors import InvalidInput
from slipway_contract.url import is_public, read_url
from slipway_gateway.http.outbound import Outbound

from tests.contract.test_url import URLS


@given(URLS)
def test_the_http_client_parses_the_same_host_and_port(text: str) -> None:
    try:
        url = read_url(text)
        client = Url(str(url))
    except ValueError:
        return
    assert (client.host_str or "").strip("[]") == url.host
    assert (client.scheme, client.port_or_known_default) == (url.scheme, url.port)
    assert (client.username, client.password) == ("", None)


@given(URLS.filter(lambda text: "localhost" in text or "127" in text or "::" in text))
@settings(max_examples=50)
def test_an_accepted_url_has_a_public_address(text: str) -> None:
    try:
        place = asyncio.run(Outbound(frozenset()).check("url", text))
    except InvalidInput:
        return
    assert is_public(place.address)
    assert (Url(str(place.url)).host_str or "").strip("[]") == place.host
