"""Limits of client connections: time, size, number, and callers that do not read. Raw sockets."""

import re
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from tests.gateway.environment import Client, Environment, Process, running, v2_request
from tests.gateway.predictor import Predictor
from tests.support.waiting import SECONDS, wait_for

HEAD_SECONDS, BODY_SECONDS, WRITE_SECONDS, IDLE_SECONDS = 2.0, 2.0, 2.0, 12.0
"""Long enough for a busy machine to send a request, which a longer pause would break off."""


@pytest.fixture(scope="module")
def strict(new_environment: Callable[[], Environment]) -> Iterator[Client]:
    """Provide a gateway with short timeouts."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    limits: dict[str, Any] = {
        "head_seconds": HEAD_SECONDS,
        "body_seconds": BODY_SECONDS,
        "write_seconds": WRITE_SECONDS,
        "head_limit": 4096,
    }
    with environment.gateway(**limits, idle_seconds=IDLE_SECONDS, connection_limit=40) as client:
        wait_for("the model", lambda: client.infer("heart").status_code == 200)
        yield client


def connect(client: Client) -> socket.socket:
    address = urlsplit(client.url)
    return socket.create_connection((address.hostname or "", address.port or 80), timeout=SECONDS)


def read_all(connection: socket.socket) -> bytes:
    """Return all bytes until the other side closes or resets the connection."""
    received = b""
    try:
        while piece := connection.recv(2**16):
            received += piece
    except ConnectionResetError:
        pass
    return received


def status(received: bytes) -> int:
    assert received, "closed without a response"
    return int(received.split(b" ", 2)[1])


def infer(client: Client, body: bytes, length: int | None = None, more: bytes = b"") -> bytes:
    token = client.environment.issuer.token().encode()
    head = (
        b"POST /v2/models/heart/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n" % token
    )
    return head + b"content-length: %d\r\n%s\r\n%s" % (length or len(body), more, body)


BODY = orjson.dumps(v2_request())


def test_a_silent_connection_is_closed(strict: Client) -> None:
    with connect(strict) as connection:
        started = time.monotonic()
        assert read_all(connection) == b""
        assert HEAD_SECONDS * 0.9 < time.monotonic() - started < IDLE_SECONDS


@pytest.mark.parametrize("kept", [False, True], ids=["at once", "after a request"])
def test_a_head_that_arrives_slowly_gets_408(strict: Client, kept: bool) -> None:
    with connect(strict) as connection:
        if kept:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert status(connection.recv(2**16)) == 200
        connection.sendall(b"GET /v2 HTTP/1.1\r\n")
        stopped = trickle(connection, b"x-more: 1\r\n")
        received = read_all(connection)
        stopped.set()
    assert status(received) == 408
    assert b'{"error":"the head of the request did not arrive in time"}' in received
    assert b"connection: close" in received


def test_a_body_that_arrives_slowly_gets_408(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(infer(strict, BODY[:10], 10_000))
        stopped = trickle(connection, b" ")
        received = read_all(connection)
        stopped.set()
    assert status(received) == 408
    assert b"the body of the request did not arrive in time" in received


def trickle(connection: socket.socket, piece: bytes) -> threading.Event:
    """Send the piece ten times a second, until the event is set or the connection is closed."""
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(0.1):
            try:
                connection.sendall(piece)
            except OSError:
                return

    threading.Thread(target=send, daemon=True).start()
    return stopped


def test_a_slow_body_within_the_time_is_accepted(strict: Client) -> None:
    with connect(strict) as connection:
        content = infer(strict, BODY)
        for at in range(0, len(content), len(content) // 5 + 1):
            connection.sendall(content[at : at + len(content) // 5 + 1])
            threading.Event().wait(BODY_SECONDS / 20)
        assert status(connection.recv(2**16)) == 200


def test_an_idle_connection_may_last_longer_than_a_head(strict: Client) -> None:
    with connect(strict) as connection:
        for _ in range(2):
            connection.sendall(infer(strict, BODY))
            assert status(connection.recv(2**16)) == 200
            threading.Event().wait(HEAD_SECONDS + max(BODY_SECONDS, WRITE_SECONDS) * 1.2)


@pytest.mark.slow
def test_an_idle_connection_is_closed_after_its_time(strict: Client) -> None:
    with connect(strict) as connection:
        for _ in range(2):
            connection.sendall(infer(strict, BODY))
            assert status(connection.recv(2**16)) == 200
            threading.Event().wait(IDLE_SECONDS / 2)
        started = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - started > IDLE_SECONDS / 4


@pytest.mark.parametrize(
    "more",
    [b"x-long: " + b"x" * 5000 + b"\r\n", b"".join(b"x-%d: y\r\n" % at for at in range(101))],
    ids=["long", "many"],
)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
def test_a_head_that_is_too_large_gets_431(strict: Client, more: bytes, whole: bool) -> None:
    content = infer(strict, BODY, more=more)
    with connect(strict) as connection:
        for piece in [content] if whole else [content[:3000], content[3000:]]:
            connection.sendall(piece)
        assert status(read_all(connection)) == 431


def test_a_head_without_end_gets_431(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /v1/me HTTP/1.1\r\nx: " + b"x" * 4200)
        received = read_all(connection)
    assert status(received) == 431
    assert b"application/problem+json" in received


ENDLESS = pytest.mark.parametrize(
    "piece",
    [
        b"a:b\r\n" * 10,
        b"x: " + b"x" * 5000 + b"\r\n",
        b"x" * 1000,
        b"1;" + b"x" * 1000 + b"\r\n \r\n",
    ],
    ids=["many trailers", "long trailers", "a trailer without end", "chunk extensions"],
)
ENOUGH = 32 * 2**20
"""Size in bytes above that of the buffers of two sockets."""


def chunked(client: Client, *, token: bool = True) -> bytes:
    """Return the head of a chunked request."""
    head = b"POST /v2/models/heart/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    return head + (
        b"authorization: Bearer %s\r\n\r\n" % client.environment.issuer.token().encode()
        if token
        else b"\r\n"
    )


def send_until_closed(connection: socket.socket, piece: bytes) -> int:
    """Send the piece repeatedly; return the bytes sent until the other side closed."""
    sent = 0
    with suppress(OSError):
        while sent < ENOUGH:
            sent += connection.send(piece)
    return sent


@ENDLESS
def test_chunk_extensions_and_trailers_without_end_get_431(strict: Client, piece: bytes) -> None:
    with connect(strict) as connection:
        connection.sendall(chunked(strict).replace(b"\r\n", b"\r\nexpect: 100-continue\r\n", 1))
        assert status(connection.recv(2**16)) == 100
        connection.sendall(
            (b"" if piece.startswith(b"1;") else b"0\r\n") + piece * (20_000 // len(piece))
        )
        received = connection.recv(2**16)
    assert status(received) == 431
    assert (
        b"the trailers and chunk extensions are more than 100 or longer than 4096 bytes" in received
    )


@ENDLESS
def test_an_unauthenticated_caller_cannot_send_them_without_end(
    client: Client, piece: bytes
) -> None:
    with connect(client) as connection:
        connection.sendall(
            chunked(client, token=False) + (b"" if piece.startswith(b"1;") else b"0\r\n")
        )
        assert status(connection.recv(2**16)) == 401
        assert send_until_closed(connection, piece) < ENOUGH
        assert read_all(connection) == b"", "one response"


def test_chunks_and_a_few_trailers_are_accepted_and_trailers_are_no_headers(
    strict: Client,
) -> None:
    token = strict.environment.issuer.token().encode()
    chunks = b"".join(b"1;a=b\r\n%c\r\n" % each for each in BODY)
    for named, trailers, expected in [
        (True, b"x-checksum: 1\r\n" * 90, 200),
        (False, b"authorization: Bearer %s\r\n" % token, 401),
    ]:
        with connect(strict) as connection:
            connection.sendall(
                chunked(strict, token=named) + chunks + b"0\r\n" + trailers + b"\r\n"
            )
            assert status(connection.recv(2**16)) == expected


def test_the_number_of_pipelined_requests_is_limited(strict: Client) -> None:
    """Send many small requests; one read of a connection can contain 14,000 of them."""
    with connect(strict) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n\r\n" * 150)
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 200") <= 17


def test_a_long_body_does_not_count_as_head(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(infer(strict, BODY + b" " * 30_000))
        assert status(connection.recv(2**16)) == 200


def test_invalid_http_gets_400_in_the_format_of_the_protocol(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(b"POST /v2/models/heart/infer HTTP/1.1\r\ncontent-length: many\r\n\r\n")
        received = read_all(connection)
    assert status(received) == 400
    assert received.partition(b"\r\n\r\n")[2].startswith(b'{"error":')


def test_empty_lines_do_not_keep_a_connection_open(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status(connection.recv(2**16)) == 200
        connection.sendall(b"\r\n")
        started = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - started < IDLE_SECONDS


def test_a_half_closed_connection_gets_its_response(strict: Client) -> None:
    """Read until the connection is closed, by the response or by the half close."""
    with connect(strict) as connection:
        connection.sendall(infer(strict, BODY))
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    assert status(received) == 200


def test_an_incomplete_request_on_a_half_closed_connection_is_dropped_immediately(
    client: Client,
) -> None:
    for content in (b"GET /v2 HTT", infer(client, BODY[:10], 1000)):
        with connect(client) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            started = time.monotonic()
            read_all(connection)
            assert time.monotonic() - started < client.gateway.settings.head_seconds


def test_a_rejected_body_is_read_so_that_the_caller_gets_the_response(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(infer(strict, b"x", 17 * 2**20))
        assert status(connection.recv(2**16)) == 413
        connection.sendall(b"x" * 2**20)
        assert read_all(connection) == b"", "one response and the end of the connection"


def test_too_many_connections_get_503_and_open_ones_continue(
    strict: Client,
) -> None:
    crowd = [connect(strict) for _ in range(60)]
    try:
        crowd[0].sendall(infer(strict, BODY))
        assert status(crowd[0].recv(2**16)) == 200
        crowd[-1].sendall(infer(strict, BODY))
        received = read_all(crowd[-1])
        assert status(received) == 503
        assert b"retry-after: 1\r\n" in received
    finally:
        for connection in crowd:
            connection.close()
    wait_for("room again", lambda: works(strict))


def works(client: Client) -> bool:
    with connect(client) as connection:
        connection.sendall(infer(client, BODY))
        return status(connection.recv(2**16)) == 200


@pytest.mark.slow
def test_a_caller_that_does_not_read_is_disconnected(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100), url=own_predictor.url)
    with environment.gateway(write_seconds=WRITE_SECONDS) as client:
        wait_for("the model", lambda: client.infer("heart").status_code == 200)
        # More than the kernel buffers of both sides together.
        own_predictor.raw = b'{"model_name":"heart-3","outputs":[%s0]}' % (b"0," * 2**24)
        with connect(client) as connection:
            connection.sendall(infer(client, BODY))
            threading.Event().wait(WRITE_SECONDS * 3)
            received = read_all(connection)
        assert status(received) == 200
        assert len(received) < len(own_predictor.raw), "incomplete"


CROWD_SECONDS = 10.0


@pytest.fixture
def process(new_environment: Callable[[], Environment]) -> Iterator[Process]:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with running(environment, head_seconds=CROWD_SECONDS) as process:
        yield process


@pytest.mark.slow
def test_400_slow_callers_do_not_affect_others_or_fill_the_memory(process: Process) -> None:
    client = process.client
    wait_for("the model", lambda: client.infer("heart").status_code == 200)
    before, crowd = process.peak_memory(), list[Any]()
    for round_ in range(2):  # the second round needs no more memory than the first
        crowd = [connect(client) for _ in range(400)]
        for connection in crowd:
            connection.sendall(b"GET /v2 HTTP/1.1\r\nx-filler: " + b"x" * 1000)
        seconds = [client.infer("heart").elapsed.total_seconds() for _ in range(20)]
        assert max(seconds) < CROWD_SECONDS, "they do not wait for the end of the others"
        assert {status(read_all(connection)) for connection in crowd} == {408}
        for connection in crowd:
            connection.close()
        before, grown = process.peak_memory(), process.peak_memory() - before
        assert grown < (64 if not round_ else 8) * 2**20
    assert not re.search("Traceback|Exception", process.log.read_text())


@contextmanager
def few_files() -> Iterator[None]:
    """Set the usual soft limit of open files for processes that are started in this block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_a_process_raises_its_limit_of_open_files(
    new_environment: Callable[[], Environment],
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 3024:
        pytest.skip("the hard limit of this machine is lower")
    with few_files():
        process = Process(new_environment(), connection_limit=2000)
    process.wait_ready()
    found = re.search(
        r"Max open files +(\d+)", Path(f"/proc/{process.process.pid}/limits").read_text()
    )
    assert process.stop() == 0
    assert found
    assert int(found[1]) == 3024
