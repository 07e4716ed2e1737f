"""Async tasks and batches on Kubernetes, while their pods are lost."""

import io
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import KindStack, kubectl, objects, ready
from tests.support.processes import START_SECONDS
from tests.support.stack import PATIENT, v2
from tests.support.waiting import wait_for

WORKER = "app.kubernetes.io/component=worker"


def test_a_hundred_tasks_survive_the_loss_of_their_workers(
    stack: KindStack, user: httpx.Client
) -> None:
    tasks: list[dict[str, Any]] = []
    for number in range(100):
        answer = user.post(
            "/v2/models/heart/infer", json=v2(PATIENT), headers={"Prefer": "respond-async"}
        )
        assert answer.status_code == 202, answer.text
        tasks.append(answer.json())
        if number in (30, 60):
            kubectl("delete", "pod", "--selector", WORKER, "--force", "--grace-period=0")
    wait_for(
        "a worker", lambda: [pod for pod in objects("pods", WORKER) if ready(pod)], START_SECONDS
    )
    waiting = {task["taskId"] for task in tasks}

    def all_done() -> bool:
        for task in list(waiting):
            if user.get(f"/v1/tasks/{task}").json()["state"] == "succeeded":
                waiting.discard(task)
        return not waiting

    wait_for("all tasks to succeed", all_done, START_SECONDS)
    numbers = [user.get(f"/v1/tasks/{task['taskId']}").json()["requestId"] for task in tasks]
    wait_for("each in the log, once", lambda: stack.logged(numbers) == {1: 100}, START_SECONDS)


def test_a_file_of_rows_is_predicted_row_by_row(user: httpx.Client) -> None:
    names = ",".join(PATIENT)
    rows = [",".join(map(str, {**PATIENT, "age": age}.values())) for age in (*range(30, 80), -1)]
    file = "\n".join([names, *rows]).encode()
    asked = user.post(
        "/v1/models/heart/batches", files={"file": ("patients.csv", file, "text/csv")}
    )
    assert asked.status_code == 202, asked.text
    where = asked.headers["Location"]
    batch = wait_for("the batch", lambda: ended(user, where), START_SECONDS)
    assert (batch["state"], batch["rows"], batch["rowsFailed"]) == ("succeeded", 51, 1), batch
    found = pq.read_table(io.BytesIO(user.get(f"{where}/result").content)).to_pylist()
    assert [row["row"] for row in found] == list(range(51))
    assert [row["row"] for row in found if row["error"]] == [50]
    online = user.post(
        "/v1/models/heart/predictions", json={"instances": [{**PATIENT, "age": 40}]}
    ).json()["predictions"][0]
    assert found[10]["label"] == online["label"]
    assert found[10]["probability"] == pytest.approx(online["probability"], rel=1e-6)


def ended(user: httpx.Client, where: str) -> dict[str, Any] | None:
    batch: dict[str, Any] = user.get(where).json()
    return batch if batch["state"] in ("succeeded", "failed") else None
