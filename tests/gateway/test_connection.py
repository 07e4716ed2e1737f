"""Bytes and pieces that the gateway writes to a client connection."""

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import orjson
from slipway_gateway.http.connection import LARGE, CoalescingTransport

from tests.gateway.environment import Client, v2_request
from tests.support.waiting import SECONDS


class Recorded(asyncio.Transport):
    """A transport that records the written pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default or name


def written(use: Callable[[CoalescingTransport], None]) -> Recorded:
    transport = Recorded()

    async def main() -> None:
        use(CoalescingTransport(transport, asyncio.get_running_loop(), 1.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    return transport


def test_writes_of_one_loop_iteration_are_sent_in_one_piece() -> None:
    def use(joining: CoalescingTransport) -> None:
        joining.write(b"head ")
        joining.write(b"body")

    assert written(use).written == [b"head body"]


def test_a_close_flushes_earlier_writes() -> None:
    def use(joining: CoalescingTransport) -> None:
        joining.write(b"last piece")
        joining.close()

    transport = written(use)
    assert transport.written == [b"last piece"]
    assert transport.closed


def test_large_pieces_are_not_copied_or_delayed_and_keep_their_order() -> None:
    large = b"x" * (LARGE + 1)

    def use(joining: CoalescingTransport) -> None:
        joining.write(b"head ")
        joining.write(large)
        joining.write(b" tail")

    assert written(use).written == [b"head ", large, b" tail"]


def test_other_methods_are_those_of_the_transport() -> None:
    names: list[str] = []
    written(lambda joining: names.append(joining.get_extra_info("peername")))
    assert names == ["peername"]


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    address = urlsplit(client.url)
    asked = [b"/livez", b"/nothing", b"/v2/health/live"]
    with socket.create_connection(
        (address.hostname or "", address.port or 80), timeout=SECONDS
    ) as connection:
        connection.sendall(b"".join(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path for path in asked))
        answers = b""
        while b'{"live":true}' not in answers:
            answers += connection.recv(2**16)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"200", b"404", b"200"]


def test_a_caller_that_expects_100_continue_gets_it(client: Client) -> None:
    address, token = urlsplit(client.url), client.environment.issuer.token().encode()
    body = orjson.dumps(v2_request())
    head = (
        b"POST /v2/models/heart/infer HTTP/1.1\r\nhost: x\r\nexpect: "
        b"100-continue\r\nauthorization: Bearer %s\r\n"
    ) % token
    with socket.create_connection(
        (address.hostname or "", address.port or 80), timeout=SECONDS
    ) as connection:
        connection.sendall(
            head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(2**16).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")
