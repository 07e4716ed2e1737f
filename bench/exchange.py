"""Minimal HTTP/1.1 in Python: an immediate upstream, and a load at a constant rate.

python -m bench.exchange upstream --port 9000 [--seconds 0.1]
python -m bench.exchange steady --port 8080 --rate 500 --seconds 10 < request
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter, deque
from typing import Any

import uvloop

OUTPUTS = (("label", "INT64", 1), ("probability", "FP32", 0.93))


class Messages(asyncio.Protocol):
    """Consecutive messages with Content-Length."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.received = bytearray()
        self.head: bytes | None = None
        self.length = 0

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            if self.head is None:
                end = self.received.find(b"\r\n\r\n")
                if end < 0:
                    return
                self.head = bytes(self.received[: end + 4]).lower()
                del self.received[: end + 4]
                _, found, rest = self.head.partition(b"content-length:")
                self.length = int(rest.partition(b"\r\n")[0]) if found else 0
                self.chunked = b"transfer-encoding: chunked" in self.head
            if self.chunked:
                end = self.received.find(b"\r\n0\r\n\r\n")
                if end < 0:
                    return
                self.length = end + 7
            if len(self.received) < self.length:
                return
            del self.received[: self.length]
            head, self.head = self.head, None
            self.message(head)

    def message(self, head: bytes) -> None:
        raise NotImplementedError


def answer(rows: int) -> bytes:
    outputs = [
        {"name": name, "shape": [rows], "datatype": kind, "data": [value] * rows}
        for name, kind, value in OUTPUTS
    ]
    body = json.dumps({"model_name": "heart-3", "model_version": "3", "outputs": outputs})
    return (
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
        f"{len(body)}\r\n\r\n{body}"
    ).encode()


class Upstream(Messages):
    """Answers every request after ``seconds``; the path determines the number of rows."""

    answers = ((b"/wide-3/", answer(1024)), (b"", answer(1)))
    seconds = 0.0

    def message(self, head: bytes) -> None:
        response = next(response for part, response in self.answers if part in head)
        if self.seconds:
            asyncio.get_running_loop().call_later(self.seconds, self.transport.write, response)
        else:
            self.transport.write(response)


class Caller(Messages):
    """One connection of the load."""

    def __init__(self, load: "Steady") -> None:
        self.load = load
        self.due = 0.0

    def ask(self, due: float) -> None:
        self.due = due
        self.transport.write(self.load.request)

    def message(self, head: bytes) -> None:
        due, self.due = self.due, 0.0
        self.load.answered(self, head, time.perf_counter() - due)

    def connection_lost(self, _: Exception | None) -> None:
        self.load.lost(self)


class Steady:
    """Requests at a fixed rate, independent of responses; latency counts from the due time."""

    def __init__(self, port: int, request: bytes, rate: float, seconds: float) -> None:
        self.port, self.request, self.rate, self.seconds = port, request, rate, seconds
        self.free: deque[Caller] = deque()
        self.open = 0
        self.times: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.without_retry_after = 0

    async def run(self) -> dict[str, Any]:
        start = time.perf_counter()
        count = int(self.rate * self.seconds)
        under_way: set[asyncio.Task[None]] = set()
        for number in range(count):
            due = start + number / self.rate
            # Also when no time is left: a late load must still receive responses; otherwise it
            # opens connection after connection.
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self.free:
                self.free.pop().ask(due)
            else:
                task = asyncio.create_task(self.connect(due))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        end = time.perf_counter() + 35
        while sum(self.statuses.values()) < count and time.perf_counter() < end:
            await asyncio.sleep(0.05)
        self.statuses["unanswered"] += count - sum(self.statuses.values())
        cuts = statistics.quantiles(self.times or [0.0, 0.0], n=100)
        counts = {
            "statuses": {name: number for name, number in self.statuses.items() if number},
            "connections": self.open,
        }
        return {
            **counts,
            "without_retry_after": self.without_retry_after,
            "p50": cuts[49] * 1e3,
            "p99": cuts[98] * 1e3,
        }

    async def connect(self, due: float) -> None:
        self.open += 1
        try:
            _, caller = await asyncio.get_running_loop().create_connection(
                lambda: Caller(self), "127.0.0.1", self.port
            )
        except OSError:
            self.statuses["refused"] += 1
        else:
            caller.ask(due)

    def answered(self, caller: Caller, head: bytes, seconds: float) -> None:
        status = head[9:12].decode()
        self.statuses[status] += 1
        if status == "200":
            self.times.append(seconds)
        elif b"\r\nretry-after:" not in head:
            self.without_retry_after += 1
        if b"\r\nconnection: close" in head:
            caller.transport.close()
        else:
            self.free.append(caller)

    def lost(self, caller: Caller) -> None:
        if caller.due:
            self.statuses["broken"] += 1
        elif caller in self.free:
            self.free.remove(caller)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        Upstream, "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("upstream", "steady"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--rate", type=float, default=500)
    given = parser.parse_args()
    if given.what == "upstream":
        Upstream.seconds = given.seconds
        uvloop.run(serve(given.port))
    else:
        print(
            json.dumps(
                uvloop.run(
                    Steady(given.port, sys.stdin.buffer.read(), given.rate, given.seconds).run()
                )
            )
        )


if __name__ == "__main__":
    main()
