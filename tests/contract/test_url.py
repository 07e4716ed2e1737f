"""URLs in requests: parsed once and rebuilt from the checked parts."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slipway_contract.url import HttpUrl, read_url

PIECES = [
    *"ab1.:/\\@%[]#?-_ ;,\t\0ⓛ。１",
    "//",
    "%6c",
    "%2e",
    "%00",
    "xn--",
    "0x7f",
    "127.0.0.1",
    "[::1]",
    "::ffff:7f00:1",
    "localhost",
    "例え",
]
URLS = st.builds(
    "{}:{}{}".format,
    st.sampled_from(["http", "https", "HTTP", "hTtPs"]),
    st.sampled_from(["//", "//", "//", "/", "", "\\\\"]),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
)
"""Texts like URLs, of pieces that parsers interpret in different ways."""


@given(URLS)
def test_the_url_of_a_connection_has_the_checked_parts(text: str) -> None:
    try:
        url = read_url(text)
    except ValueError:
        return
    assert read_url(str(url)) == url
    parts = urlsplit(str(url))
    assert (parts.scheme, parts.hostname, parts.port or url.port) == (
        url.scheme,
        url.host,
        url.port,
    )
    assert (parts.username, parts.password, parts.fragment) == (None, None, "")
    assert str(url).isascii()
    assert set(url.host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") or ipaddress.IPv6Address(
        url.host
    )


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("https://Example.COM", HttpUrl("https", "example.com", 443, "/")),
        ("http://example.com.:8080/a?b=c#d", HttpUrl("http", "example.com", 8080, "/a?b=c")),
        ("http://ⓛocalhost/", HttpUrl("http", "localhost", 80, "/")),
        ("http://１２７.0.0.1/", HttpUrl("http", "127.0.0.1", 80, "/")),
        ("https://例え.jp/ä", HttpUrl("https", "xn--r8jz45g.jp", 443, "/%C3%A4")),
        ("http://[0:0::1]:81/", HttpUrl("http", "::1", 81, "/")),
        ("http://[::FFFF:169.254.0.1]/", HttpUrl("http", "::ffff:a9fe:1", 80, "/")),
        ("http://8.8.8.8/a\\b%2f", HttpUrl("http", "8.8.8.8", 80, "/a%5Cb%2f")),
    ],
)
def test_a_host_is_a_plain_name_or_an_address(text: str, read: HttpUrl) -> None:
    assert read_url(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1\\attacker.example/",
        "http://%6cocalhost/",
        "http://a_b.example/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://a..example/",
        "http://xn--a/",
        "http://user@example.com/",
        "http://example.com:0/",
        "http:example.com",
        "http://exa\tmple.com/",
        "http://" + "a" * 64 + ".example/",
        "http://example.com/" + "a" * 9000,
    ],
)
def test_other_hosts_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|'|[0-9a-fx.]+ is)"):
        read_url(text)
