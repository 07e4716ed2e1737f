"""Adaptive batching: concurrent requests are computed together and do not affect each other."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from mlserver import ModelSettings
from mlserver.context import model_context
from mlserver.types import ResponseOutput
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, Tensor
from slipway_serving.batches import Batches

from tests.serving.artifacts import Fitted, write_artifact, write_model_settings
from tests.support.predictor_process import Predictor, started
from tests.support.waiting import SECONDS

SIZE = 8
SIGNATURE = Signature(
    inputs=(
        Column(name="x", datatype=Datatype.FP32),
        Column(name="pair", datatype=Datatype.FP32, shape=(2,)),
    ),
    outputs=(
        Column(name="double", datatype=Datatype.FP32),
        Column(name="sum", datatype=Datatype.FP32),
    ),
)


def tensors(*rows: float) -> list[Tensor]:
    """Return inputs in another order than the signature's, x as a column vector."""
    pair = Tensor(
        name="pair",
        shape=[len(rows), 2],
        datatype=Datatype.FP32,
        data=[v for row in rows for v in (row, 1.0)],
    )
    return [pair, Tensor(name="x", shape=[len(rows), 1], datatype=Datatype.FP32, data=list(rows))]


class Recorded:
    """Predicts, and records the number of rows of each call."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.broken = False

    async def __call__(
        self, tensors: Sequence[Tensor], outputs: Sequence[str]
    ) -> list[ResponseOutput]:
        by_name = {tensor.name: np.array(tensor.data).reshape(tensor.shape) for tensor in tensors}
        self.rows.append(len(by_name["x"]))
        if self.broken:
            raise ArithmeticError("the model fails")
        results = {"double": 2 * by_name["x"], "sum": by_name["pair"].sum(axis=1)}
        return [
            ResponseOutput(
                name=n, shape=[len(results[n])], datatype="FP32", data=results[n].tolist()
            )
            for n in outputs
        ]


@contextmanager
def batches(predict: Recorded, seconds: float = 0.05) -> Iterator[Batches]:
    settings = ModelSettings(
        name="m", implementation="x.Y", max_batch_size=SIZE, max_batch_time=seconds
    )
    with model_context(settings):  # MLServer enters it for each request; its metrics need it
        yield Batches(settings, SIGNATURE, predict)


def data(outputs: Sequence[ResponseOutput]) -> dict[str, Any]:
    return {output.name: (output.shape, list(output.data)) for output in outputs}


def test_concurrent_requests_are_computed_together_and_get_their_own_outputs() -> None:
    predict = Recorded()

    async def run() -> list[list[ResponseOutput]]:
        requests = [
            (tensors(1, 2), ["double", "sum"]),
            (tensors(3), ["sum"]),
            (tensors(4, 5, 6), ["sum", "double"]),
        ]
        with batches(predict) as batched:
            return await asyncio.gather(*(batched(given, wanted) for given, wanted in requests))

    first, second, third = asyncio.run(run())
    assert predict.rows == [6]
    assert data(first) == {"double": ([2], [2, 4]), "sum": ([2], [2, 3])}
    assert data(second) == {"sum": ([1], [4])}
    assert [output.name for output in third] == ["sum", "double"]
    assert data(third) == {"sum": ([3], [5, 6, 7]), "double": ([3], [8, 10, 12])}


def test_a_full_batch_does_not_wait_and_a_single_request_waits_no_longer_than_configured() -> None:
    async def seconds(count: int, wait: float) -> float:
        begin = time.perf_counter()
        with batches(Recorded(), wait) as batched:
            await asyncio.gather(*(batched(tensors(1), ["sum"]) for _ in range(count)))
        return time.perf_counter() - begin

    assert asyncio.run(seconds(SIZE, wait=SECONDS)) < SECONDS
    assert 0.1 <= asyncio.run(seconds(1, wait=0.1)) < SECONDS


def test_more_requests_than_fit_a_batch_are_split() -> None:
    predict = Recorded()

    async def run() -> None:
        with batches(predict) as batched:
            results = await asyncio.gather(
                *(batched(tensors(number), ["double"]) for number in range(20))
            )
        assert [data(result)["double"][1] for result in results] == [
            [2 * number] for number in range(20)
        ]

    asyncio.run(run())
    assert sum(predict.rows) == 20
    assert max(predict.rows) == SIZE


def test_a_failure_reaches_all_requests_of_its_batch_and_no_later_ones() -> None:
    predict = Recorded()

    async def run() -> None:
        with batches(predict) as batched:
            predict.broken = True
            results = await asyncio.gather(
                *(batched(tensors(1), ["sum"]) for _ in range(3)), return_exceptions=True
            )
            assert [type(result) for result in results] == [ArithmeticError] * 3
            predict.broken = False
            assert data(await batched(tensors(1), ["sum"])) == {"sum": ([1], [2])}

    asyncio.run(run())


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory, patients: Fitted) -> Iterator[Predictor]:
    folder = tmp_path_factory.mktemp("batched") / "mnt"
    write_artifact(folder, patients)
    write_model_settings(folder)
    switch = {"MLSERVER_MODEL_MAX_BATCH_SIZE": str(SIZE), "MLSERVER_MODEL_MAX_BATCH_TIME": "0.05"}
    with started(folder, folder.parent / "log", switch) as predictor:
        yield predictor


def test_an_invalid_request_over_http_fails_alone(predictor: Predictor, patients: Fitted) -> None:
    expected = patients.estimator.predict_proba(patients.rows)[:, 1]

    def run(number: int) -> httpx.Response:
        body = patients.request(patients.rows[number : number + 1])
        if number % 5 == 0:
            body["inputs"][0]["data"] = [-1]
        if number % 3 == 0:
            body["outputs"] = [{"name": "probability"}]
        return predictor.infer({"id": str(number), **body})

    with ThreadPoolExecutor(16) as callers:
        results = list(callers.map(run, range(40)))
    for number, result in enumerate(results):
        if number % 5 == 0:
            assert (result.status_code, result.json()) == (
                422,
                {"error": "age: -1 is below the minimum 0 a"},
            )
            continue
        assert result.status_code == 200
        assert result.json()["id"] == str(number)
        outputs = {output["name"]: output["data"] for output in result.json()["outputs"]}
        assert list(outputs) == (["probability"] if number % 3 == 0 else ["label", "probability"])
        assert outputs["probability"] == [pytest.approx(expected[number], abs=1e-5)]


def test_with_batching_a_single_request_waits(predictor: Predictor, patients: Fitted) -> None:
    begin = time.perf_counter()
    assert predictor.infer(patients.request(patients.rows[:1])).status_code == 200
    assert time.perf_counter() - begin >= 0.05


@pytest.mark.slow
def test_without_batching_requests_are_not_queued(tmp_path: Path, patients: Fitted) -> None:
    write_artifact(tmp_path / "mnt", patients)
    write_model_settings(tmp_path / "mnt")
    off = {"MLSERVER_MODEL_MAX_BATCH_SIZE": "0", "MLSERVER_MODEL_MAX_BATCH_TIME": "0"}
    with started(tmp_path / "mnt", tmp_path / "log", off) as predictor:
        assert predictor.infer(patients.request()).status_code == 200
        assert "batch_request_queue" not in httpx.get(predictor.metrics, timeout=SECONDS).text
