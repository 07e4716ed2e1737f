"""More requests than a model can answer: some are refused at once, the others are not late."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from slipway_gateway.errors import Unavailable
from slipway_gateway.inference.admission_queue import AdmissionQueue, Bounds

from tests.gateway.environment import Client, Environment
from tests.gateway.loopback import wait_for
from tests.gateway.predictor import Predictor


@contextmanager
def crowded(
    new_environment: Callable[[], Environment], predictor: Predictor, **settings: Any
) -> Iterator[Client]:
    environment = new_environment()
    environment.model("heart", ("3", 100), url=predictor.url)
    with environment.gateway(upstream_timeout_seconds=10, **settings) as client:
        assert client.infer("heart").status_code == 200
        yield client


def at_once(client: Client, count: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: client.infer("heart"), range(count)))


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    assert all(
        int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503
    )
    return Counter(answer.status_code for answer in answers)


def test_those_beyond_room_and_line_are_refused_at_once(
    new_environment: Callable[[], Environment], troubled: Predictor
) -> None:
    with crowded(
        new_environment, troubled, predictor_concurrency=2, queue_length=3, queue_seconds=10
    ) as client:
        troubled.delay = 0.5
        answers = at_once(client, 12)
        assert statuses(answers) == {200: 5, 503: 7}
        refused = [answer for answer in answers if answer.status_code == 503]
        assert all(answer.elapsed.total_seconds() < 0.5 for answer in refused)
        assert "more requests than it can answer" in refused[0].json()["error"]
        assert "slipway-version" not in refused[0].headers
        troubled.delay = 0
        assert statuses(at_once(client, 2)) == {200: 2}, "normal again at once"
        wait_for("the log", lambda: client.environment.count("status = 200") == 8)
        assert client.environment.count() == 8, "who was not let in is in no log"


def test_a_version_that_nobody_asks_has_no_line(
    new_environment: Callable[[], Environment], troubled: Predictor
) -> None:
    with crowded(new_environment, troubled, predictor_concurrency=1) as client:
        troubled.delay = 0.3
        answers = at_once(client, 3)
        assert statuses(answers) == {200: 3}
        wait_for(
            "the end of the line: each version that ever was served would leave one",
            lambda: not _lines(),
        )


def _lines() -> list[AdmissionQueue]:
    return [each for each in gc.get_objects() if isinstance(each, AdmissionQueue)]


def test_nobody_waits_longer_than_the_deadline(
    new_environment: Callable[[], Environment], troubled: Predictor
) -> None:
    with crowded(
        new_environment, troubled, predictor_concurrency=1, queue_length=10, queue_seconds=0.2
    ) as client:
        troubled.delay = 1
        answers = at_once(client, 5)
        assert statuses(answers) == {200: 1, 503: 4}
        late = [answer.elapsed.total_seconds() for answer in answers if answer.status_code == 503]
        assert min(late) >= 0.2
        assert max(late) < 0.9, "before the one under way was answered"


def test_named_predictions_stand_in_the_same_line(
    new_environment: Callable[[], Environment], troubled: Predictor
) -> None:
    with (
        crowded(new_environment, troubled, predictor_concurrency=1, queue_length=0) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        row = {"instances": [{"age": 63, "chol": 233, "thal": 6}]}
        assert client.post("/v1/models/heart/predictions", row).status_code == 200
        troubled.delay, asked = 1, len(troubled.asked)
        under_way = thread.submit(client.infer, "heart")
        wait_for("the first at the predictor", lambda: len(troubled.asked) > asked)
        refused = client.post("/v1/models/heart/predictions", row)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        assert under_way.result().status_code == 200


def test_one_model_does_not_stand_in_anothers_way(
    new_environment: Callable[[], Environment], troubled: Predictor, predictor: Predictor
) -> None:
    with (
        crowded(new_environment, troubled, predictor_concurrency=1, queue_length=0) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        client.environment.model("other", ("1", 100), url=predictor.url)
        wait_for("the other model", lambda: client.infer("other").status_code == 200)
        troubled.delay, asked = 1, len(troubled.asked)
        under_way = thread.submit(client.infer, "heart")
        wait_for("the first at the predictor", lambda: len(troubled.asked) > asked)
        assert client.infer("heart").status_code == 503
        assert client.infer("other").status_code == 200
        assert under_way.result().status_code == 200


def test_a_burst_that_fits_the_line_loses_nobody(
    new_environment: Callable[[], Environment], troubled: Predictor
) -> None:
    with crowded(
        new_environment, troubled, predictor_concurrency=2, queue_length=30, queue_seconds=10
    ) as client:
        troubled.delay = 0.05
        assert statuses(at_once(client, 30)) == {200: 30}


def run(scene: Callable[[], object]) -> None:
    async def main() -> None:
        await scene()  # type: ignore[misc]

    asyncio.run(main())


def test_who_came_first_is_let_in_first() -> None:
    async def scene() -> None:
        line, order = AdmissionQueue(Bounds(1, 10, 5)), list[int]()
        await line.enter(1)

        async def visit(number: int) -> None:
            await line.enter(1)
            order.append(number)
            line.leave()

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(visit(number))
            await asyncio.sleep(0)
            assert len(line) == 5
            line.leave()
        assert order == list(range(5))

    run(scene)


def test_more_pods_make_more_room() -> None:
    async def scene() -> None:
        line = AdmissionQueue(Bounds(2, 0, 1))
        for _ in range(6):
            await line.enter(3)
        with pytest.raises(Unavailable):
            await line.enter(3)
        with pytest.raises(Unavailable):
            await line.enter(1)

    run(scene)


def test_who_is_cancelled_leaves_no_gap_in_the_line() -> None:
    async def scene() -> None:
        line = AdmissionQueue(Bounds(1, 10, 5))
        await line.enter(1)
        waiting = [asyncio.create_task(line.enter(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        assert len(line) == 2
        line.leave()  # lets the second in, which is cancelled before it notices
        waiting[1].cancel()
        await asyncio.wait(waiting[1:2])
        await waiting[2]
        line.leave()
        begun = time.monotonic()
        await line.enter(1)
        assert time.monotonic() - begun < 1

    run(scene)
