"""What callers may not do to a connection: dawdle, shout, never read, come in crowds. With raw
sockets.
"""

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
from tests.gateway.loopback import DEADLINE, wait_for
from tests.gateway.predictor import Predictor

HEAD_SECONDS, BODY_SECONDS, WRITE_SECONDS, IDLE_SECONDS = 0.5, 1.0, 1.0, 3.0


@pytest.fixture(scope="module")
def strict(new_environment: Callable[[], Environment]) -> Iterator[Client]:
    """A gateway that waits for nobody."""
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
    return socket.create_connection((address.hostname or "", address.port or 80), timeout=DEADLINE)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes; a reset is a close too."""
    received = b""
    try:
        while piece := connection.recv(2**16):
            received += piece
    except ConnectionResetError:
        pass
    return received


def status(received: bytes) -> int:
    assert received, "closed without a word"
    return int(received.split(b" ", 2)[1])


def infer(client: Client, body: bytes, length: int | None = None, more: bytes = b"") -> bytes:
    token = client.environment.issuer.token().encode()
    head = (
        b"POST /v2/models/heart/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n" % token
    )
    return head + b"content-length: %d\r\n%s\r\n%s" % (length or len(body), more, body)


BODY = orjson.dumps(v2_request())


def test_who_says_nothing_is_sent_away(strict: Client) -> None:
    with connect(strict) as connection:
        begun = time.monotonic()
        assert read_all(connection) == b""
        assert HEAD_SECONDS * 0.9 < time.monotonic() - begun < HEAD_SECONDS + 5


@pytest.mark.parametrize("kept", [False, True], ids=["at once", "after a request"])
def test_a_head_that_trickles_in_is_answered_408(strict: Client, kept: bool) -> None:
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


def test_a_body_that_trickles_in_is_answered_408(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(infer(strict, BODY[:10], 10_000))
        stopped = trickle(connection, b" ")
        received = read_all(connection)
        stopped.set()
    assert status(received) == 408
    assert b"the body of the request did not arrive in time" in received


def trickle(connection: socket.socket, piece: bytes) -> threading.Event:
    """Send the piece ten times a second, until the event is set or nobody listens."""
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(0.1):
            try:
                connection.sendall(piece)
            except OSError:
                return

    threading.Thread(target=send, daemon=True).start()
    return stopped


def test_a_slow_body_that_is_in_time_is_answered(strict: Client) -> None:
    with connect(strict) as connection:
        content = infer(strict, BODY)
        for at in range(0, len(content), len(content) // 5 + 1):
            connection.sendall(content[at : at + len(content) // 5 + 1])
            threading.Event().wait(BODY_SECONDS / 20)
        assert status(connection.recv(2**16)) == 200


def test_a_kept_connection_may_rest_longer_than_a_head_may_take(strict: Client) -> None:
    with connect(strict) as connection:
        for _ in range(2):
            connection.sendall(infer(strict, BODY))
            assert status(connection.recv(2**16)) == 200
            threading.Event().wait(HEAD_SECONDS + max(BODY_SECONDS, WRITE_SECONDS) * 1.2)


def test_a_kept_connection_is_closed_when_it_was_quiet_for_long(strict: Client) -> None:
    with connect(strict) as connection:
        for _ in range(2):
            connection.sendall(infer(strict, BODY))
            assert status(connection.recv(2**16)) == 200
            threading.Event().wait(IDLE_SECONDS / 2)
        begun = time.monotonic()
        assert read_all(connection) == b""
        assert IDLE_SECONDS / 4 < time.monotonic() - begun < IDLE_SECONDS + 5


@pytest.mark.parametrize(
    "more",
    [b"x-long: " + b"x" * 5000 + b"\r\n", b"".join(b"x-%d: y\r\n" % at for at in range(101))],
    ids=["long", "many"],
)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
def test_a_head_that_is_too_large_is_answered_431(strict: Client, more: bytes, whole: bool) -> None:
    content = infer(strict, BODY, more=more)
    with connect(strict) as connection:
        for piece in [content] if whole else [content[:3000], content[3000:]]:
            connection.sendall(piece)
        assert status(read_all(connection)) == 431


def test_a_head_that_never_ends_is_answered_431(strict: Client) -> None:
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
"""Bytes: more than the buffers of two sockets hold."""


def chunked(client: Client, *, token: bool = True) -> bytes:
    """The head of a request with chunks."""
    head = b"POST /v2/models/heart/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    return head + (
        b"authorization: Bearer %s\r\n\r\n" % client.environment.issuer.token().encode()
        if token
        else b"\r\n"
    )


def send_until_closed(connection: socket.socket, piece: bytes) -> int:
    """Send the piece again and again; return the bytes that were taken before the other side closed
    the connection.
    """
    sent = 0
    with suppress(OSError):
        while sent < ENOUGH:
            sent += connection.send(piece)
    return sent


@ENDLESS
def test_what_is_around_a_body_without_end_is_answered_431(strict: Client, piece: bytes) -> None:
    with connect(strict) as connection:
        connection.sendall(chunked(strict).replace(b"\r\n", b"\r\nexpect: 100-continue\r\n", 1))
        assert status(connection.recv(2**16)) == 100
        connection.sendall(
            (b"" if piece.startswith(b"1;") else b"0\r\n") + piece * (20_000 // len(piece))
        )
        received = connection.recv(2**16)
    assert status(received) == 431
    assert (
        b"the trailers and chunk extensions are more than 100, or longer than 4096 bytes"
        in received
    )


@ENDLESS
def test_a_caller_without_a_token_cannot_send_it_without_end_either(
    client: Client, piece: bytes
) -> None:
    with connect(client) as connection:
        connection.sendall(
            chunked(client, token=False) + (b"" if piece.startswith(b"1;") else b"0\r\n")
        )
        assert status(connection.recv(2**16)) == 401
        assert send_until_closed(connection, piece) < ENOUGH
        assert read_all(connection) == b"", "no second answer"


def test_plain_chunks_and_a_few_trailers_are_taken_and_trailers_are_no_headers(
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


def test_requests_that_wait_behind_another_are_few(strict: Client) -> None:
    """One read of a connection can hold 14,000 of them."""
    with connect(strict) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n\r\n" * 150)
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 200") <= 17


def test_a_long_body_is_no_long_head(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(infer(strict, BODY + b" " * 30_000))
        assert status(connection.recv(2**16)) == 200


def test_what_is_not_http_is_answered_400_in_the_protocols_form(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(b"POST /v2/models/heart/infer HTTP/1.1\r\ncontent-length: many\r\n\r\n")
        received = read_all(connection)
    assert status(received) == 400
    assert received.partition(b"\r\n\r\n")[2].startswith(b'{"error":')


def test_empty_lines_keep_nobody_connected(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status(connection.recv(2**16)) == 200
        connection.sendall(b"\r\n")
        begun = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - begun < HEAD_SECONDS + 5


def test_a_caller_who_has_closed_one_half_is_answered(strict: Client) -> None:
    """And its connection closed: by the answer itself, unless that was faster than the close."""
    with connect(strict) as connection:
        connection.sendall(infer(strict, BODY))
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    assert status(received) == 200


def test_half_a_request_and_a_half_closed_connection_are_dropped_at_once(strict: Client) -> None:
    for content in (b"GET /v2 HTT", infer(strict, BODY[:10], 1000)):
        with connect(strict) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            begun = time.monotonic()
            read_all(connection)
            assert time.monotonic() - begun < HEAD_SECONDS


def test_a_refused_body_is_taken_in_so_that_the_refusal_is_read(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(infer(strict, b"x", 17 * 2**20))
        assert status(connection.recv(2**16)) == 413
        connection.sendall(b"x" * 2**20)
        assert read_all(connection) == b"", "no second answer; and an end"


def test_too_many_connections_are_answered_503_and_those_that_are_open_go_on(
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


def test_who_does_not_read_is_left_behind(
    new_environment: Callable[[], Environment], troubled: Predictor
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100), url=troubled.url)
    with environment.gateway(write_seconds=WRITE_SECONDS) as client:
        wait_for("the model", lambda: client.infer("heart").status_code == 200)
        # More than the kernel's buffers of both sides hold together.
        troubled.raw = b'{"model_name":"heart-3","outputs":[%s0]}' % (b"0," * 2**24)
        with connect(client) as connection:
            connection.sendall(infer(client, BODY))
            threading.Event().wait(WRITE_SECONDS * 3)
            received = read_all(connection)
        assert status(received) == 200
        assert len(received) < len(troubled.raw), "broken off"


@pytest.fixture
def process(new_environment: Callable[[], Environment]) -> Iterator[Process]:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with running(environment, head_seconds=3.0) as process:
        yield process


def test_400_dawdlers_neither_hinder_others_nor_fill_the_memory(process: Process) -> None:
    client = process.client
    wait_for("the model", lambda: client.infer("heart").status_code == 200)
    before, crowd = process.peak_memory(), list[Any]()
    for round_ in range(2):  # the second round takes no more memory than the first
        crowd = [connect(client) for _ in range(400)]
        for connection in crowd:
            connection.sendall(b"GET /v2 HTTP/1.1\r\nx-filler: " + b"x" * 1000)
        seconds = [client.infer("heart").elapsed.total_seconds() for _ in range(20)]
        assert max(seconds) < 2, seconds
        assert {status(read_all(connection)) for connection in crowd} == {408}
        for connection in crowd:
            connection.close()
        before, grown = process.peak_memory(), process.peak_memory() - before
        assert grown < (64 if not round_ else 8) * 2**20
    assert not re.search("Traceback|Exception", process.log.read_text())


@contextmanager
def few_files() -> Iterator[None]:
    """For processes that are started meanwhile: the soft limit that a desktop gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_may_open_as_many_files_as_its_limits_need(
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
