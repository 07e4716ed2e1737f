"""Replacement of a predictor's pods, on a local cluster whose kubelet runs them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway_cluster import INFERENCE_SERVICE, MODEL
from slipway_contract.model import ConditionType, ModelStatus

from tests.cluster.machine import Machine, is_ready, read
from tests.cluster.manifests import RUNTIME, SERVER, runtime, storage
from tests.controller.test_controller import HEART, World
from tests.support.waiting import wait_for

CODE = f"import os, sys\nif 'BROKEN' in os.environ: sys.exit('no such option')\n{SERVER}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    serving = runtime(CODE, env=[{"name": "PORT", "value": "8080"}])
    other = {**runtime(), "metadata": {"name": "another-format"}}
    serving["spec"]["supportedModelFormats"] = [{"name": "slipway"}]
    with Machine.running(tmp_path / "state") as machine:
        machine.cluster.apply(serving)
        machine.cluster.apply(other)
        machine.cluster.apply(storage())
        yield World(machine.cluster)


def declare(world: World, **predictor: Any) -> None:
    spec = {"registeredModel": "heart", "predictor": {"runtime": RUNTIME, **predictor}}
    world.cluster.apply({**HEART, "spec": spec})


def reconciled(world: World, kind: ConditionType, *expected: str) -> ModelStatus:
    """Reconcile until the condition has this status and this reason."""

    def look() -> ModelStatus | None:
        status = world.reconcile_model()
        found = status.condition(kind)
        holds = found and (found.status, found.reason) == expected
        return status if holds and _is_current(world, status) else None

    return wait_for(f"{kind} to be {expected}", look)


def _is_current(world: World, status: ModelStatus) -> bool:
    generation: int = world.cluster.get(MODEL, "heart")["metadata"]["generation"]
    return status.observed_generation == generation


def served(world: World) -> Callable[[], str]:
    """Return a function that reads from the address that the gateway would call."""

    def answer() -> str:
        (target,) = world.reconcile_model().traffic
        return read(f"{target.url}/ready")

    return answer


def test_former_pods_answer_until_changed_ones_start_and_these_answer_the_example(
    world: World,
) -> None:
    declare(world)
    status = reconciled(world, ConditionType.PROGRESSING, "False", "Serving")
    answer, before = served(world), status.traffic
    assert answer() == "yes"

    declare(world, env=[{"name": "BROKEN", "value": "yes"}], podLabels={"example.org/a": "b"})
    status = reconciled(world, ConditionType.DEGRADED, "True", "CrashLoop")
    degraded, ready = (
        status.condition(ConditionType.DEGRADED),
        status.condition(ConditionType.READY),
    )
    assert degraded
    assert "version 1 answers from its former pods" in degraded.message
    assert ready
    assert (ready.status, status.traffic, answer()) == ("True", before, "yes")
    assert is_ready(world.cluster.get(INFERENCE_SERVICE, "heart-1")["status"])

    world.infer_status = 500
    declare(world, podLabels={"example.org/a": "b"})
    status = reconciled(world, ConditionType.DEGRADED, "True", "SmokePredictionFailed")
    assert [(each.version, each.percent) for each in status.traffic] == [("1", 100)]
    assert status.traffic[0].url != before[0].url
    assert answer() == "yes"
    assert world.events()["ReplacingPods"] == "Normal"


def test_former_pods_answer_when_the_changed_runtime_cannot_serve_the_format(world: World) -> None:
    declare(world)
    reconciled(world, ConditionType.PROGRESSING, "False", "Serving")
    declare(world, runtime="another-format")
    status = reconciled(world, ConditionType.DEGRADED, "True", "NoSupportingRuntime")
    degraded, ready = (
        status.condition(ConditionType.DEGRADED),
        status.condition(ConditionType.READY),
    )
    assert degraded
    assert "'another-format' does not list format 'slipway'" in degraded.message
    assert ready
    assert (ready.status, served(world)()) == ("True", "yes")
    declare(world)
    reconciled(world, ConditionType.DEGRADED, "False", "UpToDate")


def test_replaced_pods_are_tried_once(world: World) -> None:
    declare(world)
    reconciled(world, ConditionType.PROGRESSING, "False", "Serving")
    declare(world, resources={"limits": {"nvidia.com/gpu": 1}})
    reconciled(world, ConditionType.PROGRESSING, "True", "SmokePrediction")
    status = reconciled(world, ConditionType.PROGRESSING, "False", "Serving")
    assert world.reconcile_model() == status
