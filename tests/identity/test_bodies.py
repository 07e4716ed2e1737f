"""Limits of the bundled provider on unauthenticated requests: small bodies, in time."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import ValidationError
from slipway_identity.bodies import BoundedBodies
from slipway_identity.settings import BodySettings

from tests.identity.provider import SECRET
from tests.support.asgi_server import AsgiServer
from tests.support.waiting import SECONDS, wait_for

LIMIT = 1000
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Echo:
    """An application that returns the body and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        assert scope["type"] == "http"
        self.calls += 1
        message = await receive()
        assert not message["more_body"]
        headers = [(b"content-length", str(len(message["body"])).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": message["body"]})


def bounded(**changed: Any) -> tuple[Echo, AsgiServer]:
    echo = Echo()
    settings = BodySettings.model_validate(
        {"body_limit": LIMIT, "body_seconds": SECONDS, "bodies": 2, **changed}
    )
    return echo, AsgiServer(BoundedBodies(echo, settings))


def test_a_body_within_the_limit_arrives_whole() -> None:
    echo, loopback = bounded()
    with loopback as server:
        assert httpx.post(server.url, content=b"x" * LIMIT, timeout=SECONDS).content == b"x" * LIMIT
        assert (
            httpx.post(server.url, content=iter([b"x" * 300] * 3), timeout=SECONDS).content
            == b"x" * 900
        )
        assert httpx.get(server.url, timeout=SECONDS).content == b""
    assert echo.calls == 3


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_a_larger_body_is_rejected_with_413_and_not_passed_on(chunked: bool) -> None:
    echo, loopback = bounded()
    with loopback as server:
        content: Any = iter([b"x" * 600] * 2) if chunked else b"x" * (LIMIT + 1)
        refused = httpx.post(server.url, content=content, timeout=SECONDS)
        assert (refused.status_code, refused.text) == (
            413,
            f"the body is larger than {LIMIT} bytes",
        )
    assert echo.calls == 0


def test_a_body_that_does_not_arrive_in_time_is_rejected_with_408() -> None:
    echo, loopback = bounded(body_seconds=0.2)
    with loopback as server, half_sent(server) as connection:
        assert connection.recv(2**16).startswith(b"HTTP/1.1 408 ")
    assert echo.calls == 0


def test_the_number_of_concurrent_bodies_is_limited() -> None:
    _, loopback = bounded()
    with loopback as server:
        held = [half_sent(server) for _ in range(2)]

        def refused() -> httpx.Response | None:
            answer = httpx.post(server.url, content=b"x", timeout=SECONDS)
            return answer if answer.status_code == 503 else None

        assert wait_for("a refusal", refused).headers["retry-after"] == "1"
        for connection in held:
            connection.close()
        wait_for(
            "room again",
            lambda: httpx.post(server.url, content=b"x", timeout=SECONDS).status_code == 200,
        )


def half_sent(server: AsgiServer) -> socket.socket:
    """Return a connection that has sent half a body."""
    connection = socket.create_connection(
        ("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=SECONDS
    )
    connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf ")
    return connection


def test_a_disconnected_caller_causes_no_call() -> None:
    echo = Echo()

    async def leave() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(_: object) -> None:
            raise AssertionError("the client has disconnected")

        await BoundedBodies(echo, BodySettings())({"type": "http", "headers": []}, receive, send)

    asyncio.run(leave())
    assert echo.calls == 0


def test_the_limits_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (BodySettings().body_limit, BodySettings().body_seconds) == (64 * 2**10, 10)
    monkeypatch.setenv("SLIPWAY_IDENTITY_BODY_LIMIT", "0")
    with pytest.raises(ValidationError, match="greater than 0"):
        BodySettings()


@pytest.mark.slow
def test_the_provider_rejects_a_large_body_of_an_unauthenticated_caller(provider: str) -> None:
    address = urlsplit(provider)
    head = (
        b"POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-type: "
        b"application/x-www-form-urlencoded\r\n"
    )
    with socket.create_connection(
        (address.hostname or "", address.port or 80), timeout=SECONDS
    ) as connection:
        connection.sendall(head + b"content-length: 67108864\r\n\r\n")
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(
        (address.hostname or "", address.port or 80), timeout=SECONDS
    ) as connection:
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        with suppress(OSError):
            for _ in range(1024):
                connection.sendall(b"10000\r\n" + b"a" * 2**16 + b"\r\n")
            pytest.fail("64 MiB were accepted")
    small = {"grant_type": "client_credentials", "padding": "x" * 60_000}
    assert (
        httpx.post(
            f"{provider}/oauth/token",
            data=small,
            auth=("nightly", SECRET),
            trust_env=False,
            timeout=SECONDS,
        ).status_code
        == 200
    )
