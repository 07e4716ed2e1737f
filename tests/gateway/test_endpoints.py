"""Distribution of requests over the pods of a Service, which come and go."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from slipway_cluster.interface import ENDPOINT_SLICE
from slipway_gateway.inference.endpoints import (
    ASIDE_SECONDS,
    Endpoint,
    Endpoints,
    Slice,
    read_slice,
    service_of,
)

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import Predictor
from tests.support.waiting import wait_for

SERVICE = "spread-1-predictor"


@pytest.fixture
def replicas() -> Iterator[list[Predictor]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Predictor()) for _ in range(3)]


@pytest.fixture
def spread(environment: Environment, client: Client) -> Iterator[Callable[..., None]]:
    """Provide a model behind a Service.

    A call declares the URLs of its pods and waits until the gateway routes to them.
    """

    def now(*ready: str, leaving: Sequence[str] = ()) -> None:
        environment.pods(SERVICE, *ready, leaving=leaving)
        wait_for(
            "the endpoints",
            lambda: {each.origin for each in _known(client)} == set(ready or leaving),
        )

    environment.model("spread", ("1", 100), url=environment.pods(SERVICE))
    yield now
    now()
    environment.delete_model("spread")


def _known(client: Client) -> Sequence[Endpoint]:
    return client.gateway.data.endpoints.snapshot.get(f"{SERVICE}.default", ())


def urls(predictors: Sequence[Predictor]) -> list[str]:
    return [each.url for each in predictors]


@contextmanager
def load(client: Client, callers: int = 4) -> Iterator[Counter[int]]:
    """Callers that send a request after each response, and count the statuses."""
    statuses: Counter[int] = Counter()
    over = threading.Event()

    def context() -> None:
        with Client(client.url, client.environment) as caller:
            while not over.is_set():
                statuses[caller.infer("spread").status_code] += 1

    threads = [threading.Thread(target=context) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


def assert_even(replicas: Sequence[Predictor], requests: int = 600) -> None:
    """Assert that each pod gets its share of the next requests, within 30 %.

    If every choice were random, 30 % of 600 requests over three pods would be five standard
    deviations.
    """
    before = [len(each.asked) for each in replicas]

    def counts() -> list[int]:
        return [len(each.asked) - start for each, start in zip(replicas, before, strict=True)]

    wait_for(f"{requests} requests", lambda: sum(counts()) >= requests)
    seen = counts()
    share = sum(seen) / len(seen)
    assert all(0.7 * share <= count <= 1.3 * share for count in seen), seen


def test_each_replica_gets_its_share_of_a_steady_load(
    client: Client, spread: Callable[..., None], replicas: Sequence[Predictor]
) -> None:
    spread(*urls(replicas))
    with load(client) as statuses:
        assert_even(replicas)
    assert set(statuses) == {200}


def test_sequential_requests_are_distributed(
    client: Client, spread: Callable[..., None], replicas: Sequence[Predictor]
) -> None:
    spread(*urls(replicas))
    for _ in range(300):
        assert client.infer("spread").status_code == 200
    # 300 random choices of three: 100 each, with a standard deviation of 8.2.
    assert all(abs(len(each.asked) - 100) < 5 * 8.2 for each in replicas), [
        len(each.asked) for each in replicas
    ]


def test_a_new_replica_gets_its_share_immediately_and_a_terminating_one_none(
    client: Client, spread: Callable[..., None], replicas: Sequence[Predictor]
) -> None:
    first, second, third = replicas
    spread(first.url)
    with load(client) as statuses:
        wait_for("load", lambda: len(first.asked) > 50)
        spread(*urls(replicas))
        assert_even(replicas)
        spread(second.url, third.url, leaving=[first.url])
        left = len(first.asked) + 4  # the running requests of the callers
        assert_even([second, third])
        assert len(first.asked) <= left
        first.server.__exit__()
        assert_even([second, third])
    assert set(statuses) == {200}


@pytest.mark.slow
def test_a_replica_that_fails_suddenly_costs_no_request(
    client: Client, spread: Callable[..., None], replicas: Sequence[Predictor]
) -> None:
    spread(*urls(replicas))
    with load(client) as statuses:
        assert_even(replicas)
        replicas[0].server.__exit__()
        assert_even(replicas[1:])
        asked = len(replicas[0].asked)
        replicas[0].server.__enter__()  # on the same port
        wait_for("its return", lambda: len(replicas[0].asked) > asked)
        assert_even(replicas)
    assert set(statuses) == {200}


def test_a_slow_replica_gets_fewer_requests(
    client: Client, spread: Callable[..., None], replicas: Sequence[Predictor]
) -> None:
    spread(*urls(replicas))
    replicas[0].delay = 0.5
    with load(client, callers=6):
        wait_for("300 requests", lambda: sum(len(each.asked) for each in replicas) >= 300)
    assert len(replicas[0].asked) < sum(len(each.asked) for each in replicas) / 5


def test_the_last_terminating_replica_still_gets_requests(
    client: Client, spread: Callable[..., None], replicas: Sequence[Predictor]
) -> None:
    spread(leaving=[replicas[0].url])
    assert client.infer("spread").status_code == 200
    assert replicas[0].asked == ["spread-1"]


def test_the_service_gets_the_requests_without_endpoints(
    client: Client, spread: Callable[..., None]
) -> None:
    spread()
    answer = client.infer("spread")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2", answer.text


@contextmanager
def abrupt(after: bytes) -> Iterator[str]:
    """Start a server that sends this part of a response and resets; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(2**16)
                connection.sendall(after)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "after",
    [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"],
    ids=["silence", "half an answer"],
)
def test_a_connection_that_fails_before_the_response_is_retried_on_another_pod(
    client: Client, spread: Callable[..., None], predictor: Predictor, after: bytes
) -> None:
    before = len(predictor.asked)
    with abrupt(after) as broken:
        spread(predictor.url, broken)
        for _ in range(20):
            assert client.infer("spread").status_code == 200
            for each in _known(client):
                each.aside_until = 0.0
    assert len(predictor.asked) == before + 20


def test_predictors_get_the_token_of_the_gateway_and_not_that_of_the_caller(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    environment = new_environment()
    environment.model("guarded", ("1", 100), url=own_predictor.url)
    with environment.gateway(predictor_token="a-secret-of-predictors") as client:
        assert client.infer("guarded").status_code == 200
        assert (
            client.post(
                "/v1/models/guarded/predictions", {"instances": [{"age": 1, "chol": 1, "thal": 3}]}
            ).status_code
            == 200
        )
        assert client.get("/v2/models/guarded").status_code == 200
    assert own_predictor.credentials == {b"Bearer a-secret-of-predictors"}


def test_predictors_get_no_token_without_the_setting(client: Client, predictor: Predictor) -> None:
    assert client.infer("heart").status_code == 200
    assert predictor.credentials == {None}


# --- the choice of an endpoint


@pytest.fixture
def endpoints(environment: Environment) -> Endpoints:
    endpoints = Endpoints(environment.cluster, watch_seconds=1)
    endpoints._publish(
        {
            "one": Slice("s.ns", ("http://a", "http://b"), ()),
            "two": Slice("s.ns", ("http://c",), ("http://d",)),
        }
    )
    return endpoints


ELSE = Endpoint("http://service")


def chosen(endpoints: Endpoints, failed: Endpoint | None = None) -> Counter[str]:
    return Counter(endpoints.choose("s.ns", ELSE, failed).origin for _ in range(3000))


def test_equal_endpoints_are_chosen_at_random(endpoints: Endpoints) -> None:
    counts = chosen(endpoints)
    # 3000 over three: 1000 each, with a standard deviation of 26.
    assert all(
        abs(counts[origin] - 1000) < 5 * 26 for origin in ("http://a", "http://b", "http://c")
    ), counts


def test_the_endpoint_with_the_fewest_requests_is_chosen(endpoints: Endpoints) -> None:
    a, b, c = endpoints.snapshot["s.ns"]
    a.under_way, b.under_way, c.under_way = 2, 1, 3
    assert set(chosen(endpoints)) == {"http://b"}
    assert set(chosen(endpoints, failed=b)) == {"http://a"}


def test_failed_endpoints_are_avoided_while_there_are_others(
    endpoints: Endpoints,
) -> None:
    a, b, c = endpoints.snapshot["s.ns"]
    a.set_aside()
    b.set_aside()
    assert set(chosen(endpoints)) == {"http://c"}
    assert set(chosen(endpoints, failed=c)) == {"http://a", "http://b"}
    a.aside_until -= ASIDE_SECONDS
    assert set(chosen(endpoints)) == {"http://a", "http://c"}


def test_the_only_endpoint_is_retried_and_an_unknown_service_uses_its_url(
    endpoints: Endpoints,
) -> None:
    endpoints._publish({"one": Slice("s.ns", ("http://a",), ())})
    (only,) = endpoints.snapshot["s.ns"]
    assert endpoints.choose("s.ns", ELSE, only) is only
    assert endpoints.choose("other.ns", ELSE) is ELSE
    assert endpoints.choose(None, ELSE, ELSE) is ELSE


def test_counts_survive_a_change_of_other_endpoints(endpoints: Endpoints) -> None:
    a = endpoints.snapshot["s.ns"][0]
    endpoints._publish({"one": Slice("s.ns", ("http://a", "http://e"), ())})
    assert endpoints.snapshot["s.ns"][0] is a


def test_a_choice_takes_a_few_microseconds(endpoints: Endpoints) -> None:
    begin = time.thread_time()  # other processes do not extend it
    for _ in range(10_000):
        endpoints.choose("s.ns", ELSE)
    assert (time.thread_time() - begin) / 10_000 < 50e-6


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("http://heart-3-predictor.slipway.svc.cluster.local", "heart-3-predictor.slipway"),
        ("http://heart-3-predictor.slipway.svc:80/", "heart-3-predictor.slipway"),
        ("https://heart-3-predictor.slipway.svc", None),
        ("http://127.0.0.1:8080", None),
        ("http://predictor.example", None),
        ("http://[::1]:80", None),
    ],
)
def test_the_service_of_a_url(url: str, service: str | None) -> None:
    assert service_of(url) == service


def slice_of(*endpoints: dict[str, Any], **changed: Any) -> dict[str, Any]:
    metadata = {"name": "x", "namespace": "ns", "labels": {"kubernetes.io/service-name": "s"}}
    ports = [{"port": 8080, "protocol": "TCP"}]
    return {
        "kind": ENDPOINT_SLICE.name,
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": [*endpoints],
        "ports": ports,
        **changed,
    }


@pytest.mark.parametrize(
    ("conditions", "ready", "leaving"),
    [
        ({}, True, False),
        ({"ready": True, "serving": True, "terminating": False}, True, False),
        ({"ready": False, "serving": False, "terminating": False}, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True),
        ({"ready": False, "serving": False, "terminating": True}, False, False),
    ],
)
def test_conditions_of_an_endpoint(conditions: dict[str, bool], ready: bool, leaving: bool) -> None:
    origin = ("http://10.0.0.1:8080",)
    found = read_slice(slice_of({"addresses": ["10.0.0.1"], "conditions": conditions}))
    assert found == Slice("s.ns", origin if ready else (), origin if leaving else ())


@pytest.mark.parametrize(
    "changed",
    [
        {"ports": None},
        {"ports": []},
        {"addressType": "FQDN"},
        {"metadata": {"name": "x", "namespace": "ns"}},
    ],
)
def test_a_slice_of_another_service_is_ignored(changed: dict[str, Any]) -> None:
    assert read_slice(slice_of({"addresses": ["10.0.0.1"]}, **changed)) is None


def test_ipv6_addresses_are_in_brackets_and_an_empty_slice_has_no_endpoints() -> None:
    found = read_slice(slice_of({"addresses": ["fd00::7"]}, addressType="IPv6"))
    assert found
    assert found.ready == ("http://[fd00::7]:8080",)
    assert read_slice(slice_of(endpoints=None)) == Slice("s.ns", (), ())
