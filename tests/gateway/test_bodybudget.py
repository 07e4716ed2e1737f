"""The memory budget of bodies, the share of one caller, and concurrent requests of one caller."""

import gzip
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from slipway_gateway.errors import NoMemory, TooManyAtOnce
from slipway_gateway.http.bodybudget import SMALL, BodyBudget

from tests.gateway.environment import Client, Environment, Process
from tests.gateway.predictor import Predictor
from tests.support.waiting import SECONDS, wait_for

MEBIBYTE = 2**20
PREDICT = "/v1/models/heart/predictions"
READ = (400, 422)
"""Statuses after a body was read to its end; blanks are not a valid request."""


@contextmanager
def sending(
    client: Client, path: str, who: str | None, size: int, sent: int, more: bytes = b""
) -> Iterator[socket.socket]:
    """Open a connection and send ``sent`` bytes of a body of ``size`` bytes, or chunks if 0."""
    address = urlsplit(client.url)
    head = (
        b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" % path.encode() + more
    )
    if who is not None:
        head += b"authorization: Bearer %s\r\n" % client.environment.issuer.token(who).encode()
    head += b"content-length: %d\r\n\r\n" % size if size else b"transfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(
        (address.hostname or "", address.port or 80), timeout=SECONDS
    ) as connection:
        try:
            connection.sendall(head)
            for _ in range(0, sent, 2**16):
                connection.sendall(b" " * 2**16 if size else b"10000\r\n" + b" " * 2**16 + b"\r\n")
        except OSError:  # rejected and closed
            pass
        yield connection


def answer(connection: socket.socket) -> bytes:
    """Return the response, or nothing while the gateway waits for the rest of the body."""
    connection.settimeout(0.01)
    try:
        return connection.recv(2**16)
    except (TimeoutError, ConnectionResetError):
        return b""


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_32_bodies_of_16_mebibytes_of_one_token_need_little_memory(
    process: Process, chunked: bool
) -> None:
    client = process.client
    wait_for("the model", lambda: client.infer("heart", "bob").status_code == 200)
    before, size = process.peak_memory(), 16 * MEBIBYTE

    def send(stack: ExitStack) -> socket.socket:
        return stack.enter_context(
            sending(client, PREDICT, "ada", 0 if chunked else size, size - 2**16)
        )

    with ThreadPoolExecutor(32) as threads, ExitStack() as stack:
        connections = list(threads.map(lambda _: send(stack), range(32)))
        answers = [client.infer("heart", "bob") for _ in range(20)]
        assert process.peak_memory() - before < 128 * MEBIBYTE
        assert {each.status_code for each in answers} == {200}
        refusals: list[bytes] = []

        def more_refusals() -> bool:
            refusals.extend(response for each in connections if (response := answer(each)))
            # The lengths of chunked bodies are unknown, so more of them start than complete.
            return len(refusals) >= (1 if chunked else 10)

        wait_for("the refusals", more_refusals)
        assert all(
            each.startswith(b"HTTP/1.1 429 ") and b"retry-after: 1\r\n" in each for each in refusals
        )
    wait_for("room again", lambda: client.post(PREDICT, b" " * 15 * MEBIBYTE).status_code in READ)


def test_bodies_of_unauthenticated_callers_are_not_held(process: Process) -> None:
    """Send bodies without a token on connections that stay open."""
    before = process.peak_memory()
    with ExitStack() as stack:
        for _ in range(300):
            connection = stack.enter_context(
                sending(process.client, "/v1/me", None, 4 * 2**16, 4 * 2**16)
            )
            connection.recv(2**16)
        assert process.peak_memory() - before < 24 * MEBIBYTE


def test_the_last_quarter_of_the_budget_is_reserved_for_small_bodies(
    own_environment: Environment,
) -> None:
    limits: dict[str, Any] = {
        "body_limit": 3 * SMALL,
        "body_budget_per_caller": 6 * SMALL,
        "body_budget": 8 * SMALL,
    }
    with own_environment.gateway(**limits) as client, ExitStack() as stack:
        for who in ("ada", "bob"):
            stack.enter_context(sending(client, PREDICT, who, 3 * SMALL, 2 * SMALL))
        wait_for("their bodies", lambda: client.gateway.bodies.used == 4 * SMALL)
        large = client.post(PREDICT, b" " * 3 * SMALL, "carl")
        assert (large.status_code, large.headers["retry-after"]) == (503, "1")
        assert "take all memory" in large.json()["detail"]
        assert client.infer("heart", "carl").status_code == 200
        stack.close()
        wait_for("room again", lambda: client.gateway.bodies.used == 0)
        assert client.post(PREDICT, b" " * 3 * SMALL, "carl").status_code in READ
        assert metric(client, "slipway_limit_refusals_total", limit="body_budget") == 1


def test_the_share_of_a_caller_counts_declared_lengths(
    own_environment: Environment,
) -> None:
    limits: dict[str, Any] = {
        "body_limit": 3 * SMALL,
        "body_budget_per_caller": 4 * SMALL,
        "body_budget": 8 * SMALL,
    }
    with own_environment.gateway(**limits) as client:
        with sending(client, PREDICT, "ada", 3 * SMALL, SMALL):
            wait_for("the body", lambda: client.gateway.bodies.used == SMALL)
            second = client.post(PREDICT, b" " * 2 * SMALL)
            assert (second.status_code, second.headers["retry-after"]) == (429, "1")
            assert f"more than {4 * SMALL} bytes" in second.json()["detail"]
            assert metric(client, "slipway_limit_refusals_total", limit="caller_bodies") == 1
            assert client.infer("heart").status_code == 200, "a small body fits"
            assert client.post(PREDICT, b" " * 2 * SMALL, "bob").status_code in READ
        wait_for("room again", lambda: client.post(PREDICT, b" " * 2 * SMALL).status_code in READ)


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_a_streamed_body_counts_for_its_caller(own_environment: Environment, chunked: bool) -> None:
    limits: dict[str, Any] = {
        "body_limit": 3 * SMALL,
        "body_budget_per_caller": 4 * SMALL,
        "body_budget": 8 * SMALL,
    }
    path, size = "/v2/models/heart/infer", 3 * SMALL
    with own_environment.gateway(
        log_body_limit=1000, upstream_timeout_seconds=SECONDS, **limits
    ) as client:
        assert client.infer("heart").status_code == 200
        with sending(client, path, "ada", 0 if chunked else size, size - SMALL):
            caller = client.gateway.bodies._by_caller
            wait_for("the body", lambda: sum(caller.values()) == (2 * SMALL if chunked else size))
            second: Any = iter([b" " * SMALL] * 3) if chunked else b" " * 2 * SMALL
            headers = {**client._headers("ada"), "content-type": "application/json"}
            assert client.http.post(path, content=second, headers=headers).status_code == 429
            assert client.post(path, b" " * size, "bob").status_code in READ
        wait_for("room again", lambda: not caller)


def test_the_decompressed_size_of_a_body_counts(own_environment: Environment) -> None:
    limits: dict[str, Any] = {
        "body_limit": 3 * SMALL,
        "body_budget_per_caller": 4 * SMALL,
        "body_budget": 8 * SMALL,
    }
    with (
        own_environment.gateway(**limits) as client,
        sending(client, PREDICT, "ada", 3 * SMALL, 2 * SMALL),
    ):
        wait_for("the body", lambda: client.gateway.bodies.used == 2 * SMALL)
        packed = gzip.compress(b" " * 2 * SMALL)
        assert len(packed) < 1000
        assert client.post(PREDICT, packed, content_encoding="gzip").status_code == 429


def test_a_budget_smaller_than_a_body_is_rejected_at_the_start(
    own_environment: Environment,
) -> None:
    for changed in (
        {"body_budget_per_caller": 2**20},
        {"body_budget": 20 * 2**20},
        {"body_limit": 2**30},
    ):
        with pytest.raises(ValueError, match="SLIPWAY_BODY_LIMIT exceeds"):
            own_environment.settings(**changed)


def test_released_memory_is_available_again() -> None:
    budget = BodyBudget(100, 60)
    first, second = budget.share("ada", 40), budget.share("ada", 0)
    first.expect()
    first.take(40)
    second.take(20)
    with pytest.raises(TooManyAtOnce):
        second.take(1)
    with pytest.raises(NoMemory):
        budget.share(None, 0).take(41)
    second.take(0)
    first.release()
    second.take(40)
    second.release()
    assert (budget.used, budget._by_caller) == (0, {})


@pytest.mark.slow
def test_the_concurrent_requests_of_one_caller_are_limited(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100), url=own_predictor.url)
    with environment.gateway(concurrency_per_caller=2, upstream_timeout_seconds=SECONDS) as client:
        assert client.infer("heart").status_code == 200
        own_predictor.hold()
        with ThreadPoolExecutor(2) as threads:
            under_way = [threads.submit(client.infer, "heart") for _ in range(2)]
            wait_for("both at the predictor", lambda: len(own_predictor.asked) == 3)
            for refused in (client.infer("heart"), client.get("/v1/me")):
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert client.get("/v1/me", "bob").status_code == 200
            own_predictor.release()
            assert [each.result().status_code for each in under_way] == [200, 200]
        assert client.get("/v1/me").status_code == 200
        assert metric(client, "slipway_limit_refusals_total", limit="caller_requests") == 2


def metric(client: Client, name: str, **labels: str) -> float | None:
    return client.gateway.metrics.registry.get_sample_value(name, labels)
