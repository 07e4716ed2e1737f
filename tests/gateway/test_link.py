"""Connections to predictors, against servers with unusual HTTP responses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop
from slipway_gateway.errors import Unavailable, Unreachable, UpstreamAborted, UpstreamTimeout
from slipway_gateway.http.body import Body
from slipway_gateway.http.link import HEAD_LIMIT, WHOLE_LIMIT, Answer
from slipway_gateway.http.pool import Pool

from tests.support.waiting import SECONDS

HEAD = b"POST /v2/models/heart-3/infer HTTP/1.1\r\nhost: predictor\r\n"
GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\ngood"

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
"""The server side of one connection; the third argument is its number from 1."""


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read a request with Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


@asynccontextmanager
async def predictor(talk: Conversation, **changed: Any) -> AsyncIterator[tuple[Pool, str]]:
    """Start a server; yield a pool and the origin of the server."""
    count = 0
    talks: set[asyncio.Task[Any] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        talks.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await talk(reader, writer, count)
        writer.close()

    pool = Pool(**{"timeout": SECONDS, "connect_timeout": SECONDS, "head_limit": 1000, **changed})
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield pool, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await pool.close()
        server.close()
        for each in talks:
            if each:
                each.cancel()
        await asyncio.gather(*filter(None, talks))


def answer_of(talk: Conversation, *, times: int = 1, **changed: Any) -> list[Answer]:
    """Return the responses to this number of sequential requests."""

    async def ask() -> list[Answer]:
        async with predictor(talk, **changed) as (pool, origin):
            return [await pool.post(origin, HEAD, Body(b"{}")) for _ in range(times)]

    return uvloop.run(ask())


def responding(*words: bytes, stay: bool = True) -> Conversation:
    """Return a conversation that sends these bytes after each request."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await read_request(reader)
            writer.writelines(words)
            await writer.drain()
            if not stay:
                return

    return talk


def test_a_connection_is_reused() -> None:
    numbers = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            assert await read_request(reader) == HEAD + b"content-length: 2\r\n\r\n{}"
            numbers.append(number)
            writer.write(GOOD)

    answers = answer_of(talk, times=3)
    assert [(each.status, each.content_type, each.head) for each in answers] == [
        (200, "text/plain", b"good")
    ] * 3
    assert numbers == [1, 1, 1]


def test_an_idle_connection_that_the_predictor_closed_costs_no_request() -> None:
    """Close after the second request was sent, the race of every idle connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(GOOD)
        if number == 1:
            await read_request(reader)

    assert [each.head for each in answer_of(talk, times=2)] == [b"good", b"good"]


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\ngood",
        b"HTTP/1.1 200 OK\r\n\r\ngood",
        b"HTTP/1.0 200 OK\r\n\r\ngood",
    ],
    ids=["announced", "by-its-end", "http-1.0"],
)
def test_a_response_may_end_with_its_connection(words: bytes) -> None:
    assert [each.head for each in answer_of(responding(words, stay=False), times=2)] == [
        b"good",
        b"good",
    ]


def test_a_response_may_be_chunked_and_follow_interim_responses() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\ngo\r\n2\r\nod\r\n0\r\n\r\n"
    assert [(each.status, each.head) for each in answer_of(responding(hints, chunks), times=2)] == [
        (200, b"good")
    ] * 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", Unavailable),
        (b"", Unreachable),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngo", Unreachable),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 2 * HEAD_LIMIT, Unavailable),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * HEAD_LIMIT, Unavailable),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
            + b"a: b\r\n" * HEAD_LIMIT,
            Unavailable,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * 2 * HEAD_LIMIT,
            Unavailable,
        ),
    ],
    ids=[
        "no-http",
        "nothing",
        "half",
        "endless-head",
        "endless-hints",
        "endless-trailers",
        "endless-extension",
    ],
)
def test_an_invalid_response_is_an_error(words: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match="the model cannot be reached"):
        answer_of(responding(words, stay=False))


def test_a_missing_response_times_out() -> None:
    with pytest.raises(UpstreamTimeout):
        answer_of(responding(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngo"), timeout=0.2)


def test_the_timeout_applies_to_a_reused_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await read_request(reader)
        writer.write(GOOD)
        await reader.read()
        await reader.read()

    with pytest.raises(UpstreamTimeout):
        answer_of(talk, times=2, timeout=0.3)


def test_an_idle_connection_is_closed_after_its_time() -> None:
    async def rest() -> bool:
        closed = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
            await read_request(reader)
            writer.write(GOOD)
            await reader.read()
            closed.set()

        async with predictor(talk, timeout=2) as (pool, origin):
            await pool.post(origin, HEAD, Body(b"{}"))
            return await asyncio.wait_for(closed.wait(), SECONDS)

    assert uvloop.run(rest())


def test_a_long_response_is_streamed_with_backpressure_and_the_connection_reused() -> None:
    length = 3 * 2**20

    async def ask() -> tuple[int, int]:
        async with predictor(
            responding(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length, b"x" * length)
        ) as (pool, origin):
            sizes = []
            for _ in range(2):
                answer = await pool.post(origin, HEAD, Body(b"{}"))
                assert answer.rest is not None
                await asyncio.sleep(0)
                sizes.append(len(await answer.whole()))
            return sizes[0], sizes[1]

    assert uvloop.run(ask()) == (length, length)


def test_a_long_response_that_ends_early_is_aborted() -> None:
    async def ask() -> None:
        words = responding(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n", b"x" * 2000, stay=False
        )
        async with predictor(words) as (pool, origin):
            await (await pool.post(origin, HEAD, Body(b"{}"))).whole()

    with pytest.raises(UpstreamAborted):
        uvloop.run(ask())


def test_a_response_is_buffered_only_up_to_a_limit() -> None:
    async def ask() -> None:
        words = responding(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * WHOLE_LIMIT),
            b"x" * (WHOLE_LIMIT + 2**20),
        )
        async with predictor(words) as (pool, origin):
            await (await pool.post(origin, HEAD, Body(b"{}"))).whole()

    with pytest.raises(UpstreamAborted, match="larger than"):
        uvloop.run(ask())


def test_a_response_before_the_end_of_the_body_is_returned() -> None:
    """Send a response early; the connection with the incomplete body is not reused."""
    refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head == HEAD + b"transfer-encoding: chunked\r\n\r\n"
        assert await reader.readuntil(b"\r\n") == b"4\r\n"
        writer.write(refusal)
        await reader.read()

    async def receive() -> dict[str, Any]:
        nonlocal sent
        await asyncio.sleep(0.001)
        sent += 1
        return {"type": "http.request", "body": b"abcd", "more_body": True}

    async def ask() -> list[tuple[int, bytes]]:
        async with predictor(talk) as (pool, origin):
            found = []
            for _ in range(2):
                body = await Body.read(receive, limit=10**9, keep=3)
                answer = await pool.post(origin, HEAD, body)
                found.append((answer.status, answer.head))
            return found

    assert uvloop.run(ask()) == [(413, b"no")] * 2
    assert sent < 5000
