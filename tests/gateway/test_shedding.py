"""Load shedding: excess requests are rejected immediately, and the others are not delayed."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from slipway_gateway.errors import Unavailable
from slipway_gateway.inference.admission_queue import AdmissionQueue, Bounds

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import ROW, Predictor
from tests.support.waiting import SECONDS, wait_for


@contextmanager
def crowded(
    new_environment: Callable[[], Environment], predictor: Predictor, **settings: Any
) -> Iterator[Client]:
    environment = new_environment()
    environment.model("heart", ("3", 100), url=predictor.url)
    settings = {"upstream_timeout_seconds": SECONDS, "queue_seconds": SECONDS, **settings}
    with environment.gateway(**settings) as client:
        assert client.infer("heart").status_code == 200
        yield client


def in_parallel(client: Client, count: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: client.infer("heart"), range(count)))


def held(client: Client, predictor: Predictor, count: int, refused: int) -> list[httpx.Response]:
    """Send requests to a predictor that answers only after ``refused`` of them were rejected."""
    predictor.hold()
    with ThreadPoolExecutor(count) as threads:
        asked = [threads.submit(client.infer, "heart") for _ in range(count)]
        try:
            wait_for("the rejections", lambda: sum(each.done() for each in asked) >= refused)
            assert sum(each.done() for each in asked) == refused
        finally:
            predictor.release()
        return [each.result() for each in asked]


def hold_one(
    client: Client, predictor: Predictor, thread: ThreadPoolExecutor
) -> "Future[httpx.Response]":
    """Return a request at the predictor, which answers it only after its ``release``."""
    predictor.hold()
    under_way = thread.submit(client.infer, "heart")
    wait_for("the first at the predictor", lambda: predictor.held)
    return under_way


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    assert all(
        int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503
    )
    return Counter(answer.status_code for answer in answers)


def test_requests_beyond_concurrency_and_queue_are_rejected_immediately(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    with crowded(new_environment, own_predictor, predictor_concurrency=2, queue_length=3) as client:
        answers = held(client, own_predictor, 12, refused=7)
        assert statuses(answers) == {200: 5, 503: 7}
        refused = [answer for answer in answers if answer.status_code == 503]
        assert "more requests than it can answer" in refused[0].json()["error"]
        assert "slipway-version" not in refused[0].headers
        assert statuses(in_parallel(client, 2)) == {200: 2}, "back to normal immediately"
        wait_for("the log", lambda: client.environment.count("status = 200") == 8)
        assert client.environment.count() == 8, "rejected requests are not logged"


def test_a_version_without_requests_has_no_queue(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    with crowded(new_environment, own_predictor, predictor_concurrency=1) as client:
        own_predictor.delay = 0.3
        answers = in_parallel(client, 3)
        assert statuses(answers) == {200: 3}
        wait_for(
            "the end of the queue, which would leak for each former version",
            lambda: not _queues(),
        )


def _queues() -> list[AdmissionQueue]:
    return [each for each in gc.get_objects() if isinstance(each, AdmissionQueue)]


def test_no_request_waits_longer_than_the_deadline(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    with crowded(
        new_environment, own_predictor, predictor_concurrency=1, queue_length=10, queue_seconds=0.2
    ) as client:
        answers = held(client, own_predictor, 5, refused=4)
        assert statuses(answers) == {200: 1, 503: 4}
        late = [answer.elapsed.total_seconds() for answer in answers if answer.status_code == 503]
        assert min(late) >= 0.2


def test_predictions_with_named_features_use_the_same_queue(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    with (
        crowded(new_environment, own_predictor, predictor_concurrency=1, queue_length=0) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        row = {"instances": [ROW]}
        assert client.post("/v1/models/heart/predictions", row).status_code == 200
        under_way = hold_one(client, own_predictor, thread)
        refused = client.post("/v1/models/heart/predictions", row)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        own_predictor.release()
        assert under_way.result().status_code == 200


def test_models_have_separate_queues(
    new_environment: Callable[[], Environment], own_predictor: Predictor, predictor: Predictor
) -> None:
    with (
        crowded(new_environment, own_predictor, predictor_concurrency=1, queue_length=0) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        client.environment.model("other", ("1", 100), url=predictor.url)
        under_way = hold_one(client, own_predictor, thread)
        assert client.infer("heart").status_code == 503
        assert client.infer("other").status_code == 200
        own_predictor.release()
        assert under_way.result().status_code == 200


def test_all_requests_of_a_burst_within_the_queue_length_succeed(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    with crowded(
        new_environment, own_predictor, predictor_concurrency=2, queue_length=30
    ) as client:
        own_predictor.delay = 0.05
        assert statuses(in_parallel(client, 30)) == {200: 30}


def run(scene: Callable[[], object]) -> None:
    async def main() -> None:
        await scene()  # type: ignore[misc]

    asyncio.run(main())


def test_the_queue_is_first_in_first_out() -> None:
    async def scene() -> None:
        queue, order = AdmissionQueue(Bounds(1, 10, 5)), list[int]()
        await queue.enter(1)

        async def request(number: int) -> None:
            await queue.enter(1)
            order.append(number)
            queue.leave()

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(request(number))
            await asyncio.sleep(0)
            assert len(queue) == 5
            queue.leave()
        assert order == list(range(5))

    run(scene)


def test_more_pods_allow_more_concurrent_requests() -> None:
    async def scene() -> None:
        queue = AdmissionQueue(Bounds(2, 0, 1))
        for _ in range(6):
            await queue.enter(3)
        with pytest.raises(Unavailable):
            await queue.enter(3)
        with pytest.raises(Unavailable):
            await queue.enter(1)

    run(scene)


def test_a_cancelled_request_releases_its_place_in_the_queue() -> None:
    async def scene() -> None:
        queue = AdmissionQueue(Bounds(1, 10, 5))
        await queue.enter(1)
        waiting = [asyncio.create_task(queue.enter(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        assert len(queue) == 2
        queue.leave()  # admits the second one, which is cancelled at the same time
        waiting[1].cancel()
        await asyncio.wait(waiting[1:2])
        await waiting[2]
        queue.leave()
        await queue.enter(1)  # it would be rejected after 5 seconds if a place were missing

    run(scene)
