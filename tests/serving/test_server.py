"""The entry point as a process: start, limits, memory and shutdown."""

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving.artifacts import Fitted, write_artifact, write_model_settings
from tests.support.predictor_process import PROGRAM, Predictor, started
from tests.support.waiting import SECONDS, wait_for


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, patients: Fitted) -> Path:
    folder = tmp_path_factory.mktemp("served") / "mnt"
    write_artifact(folder, patients)
    write_model_settings(folder)
    return folder


@pytest.fixture(scope="module")
def predictor(artifact: Path) -> Iterator[Predictor]:
    with started(artifact, artifact.parent / "log") as predictor:
        yield predictor


def test_probabilities_over_http_are_those_of_the_estimator(
    predictor: Predictor, patients: Fitted
) -> None:
    response = predictor.infer(patients.request())
    (label, probability) = response.json()["outputs"]
    np.testing.assert_allclose(
        probability["data"], patients.estimator.predict_proba(patients.rows)[:, 1], atol=1e-5
    )
    np.testing.assert_array_equal(label["data"], patients.estimator.predict(patients.rows))


def test_a_100_mb_body_is_refused_and_memory_stays_flat(
    predictor: Predictor, patients: Fitted
) -> None:
    before = predictor.resident
    headers = {"content-type": "application/json"}

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"1," * (2**19)

    for content in (b"1," * (50 * 2**20), chunks()):
        response = predictor.client.post(
            "/v2/models/heart-3/infer", content=content, headers=headers
        )
        assert response.status_code == 413
        assert response.json() == {"error": "the body is larger than 16777216 bytes"}
    assert predictor.resident - before < 48, "MiB more than before"
    assert predictor.infer(patients.request()).status_code == 200


def test_10_000_deep_json_is_refused_and_memory_stays_flat(
    predictor: Predictor, patients: Fitted
) -> None:
    before = predictor.resident
    deep = (
        b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": '
        + b"[" * 10_000
        + b"]" * 10_000
        + b"}]}"
    )
    for _ in range(20):
        headers = {"content-type": "application/json"}
        assert (
            predictor.client.post(
                "/v2/models/heart-3/infer", content=deep, headers=headers
            ).status_code
            == 400
        )
    assert predictor.resident - before < 16, "MiB more than before"
    assert predictor.infer(patients.request()).status_code == 200


def test_rejections_have_no_stack_trace(predictor: Predictor) -> None:
    response = predictor.infer(
        {"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": ["63"]}]}
    )
    assert response.status_code == 422
    assert "Traceback" not in response.text


@pytest.mark.slow
def test_files_are_written_to_the_temporary_folder_only(
    artifact: Path, patients: Fitted, tmp_path: Path
) -> None:
    """Expect no other files: the container's root is read-only, and no telemetry is stored."""
    writable = {
        name: tmp_path / name
        for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
    }
    for folder in writable.values():
        folder.mkdir()
    before = sorted(artifact.rglob("*"))
    environment = {
        **{name: str(folder) for name, folder in writable.items()},
        "CI": "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with started(artifact, tmp_path / "log", environment) as predictor:
        assert predictor.infer(patients.request()).status_code == 200
        predictor.process.terminate()
        assert predictor.process.wait(timeout=SECONDS) == 0
    assert not [
        path for name, folder in writable.items() if name != "TMPDIR" for path in folder.rglob("*")
    ]
    assert sorted(artifact.rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} == {*writable, "log"}


def test_metrics_have_their_own_port(predictor: Predictor, patients: Fitted) -> None:
    predictor.infer(patients.request())
    text = httpx.get(predictor.metrics, timeout=SECONDS).text
    assert 'model_infer_request_success_total{model="heart-3"' in text


@pytest.mark.slow
def test_the_token_is_read_from_the_environment(
    artifact: Path, patients: Fitted, tmp_path: Path
) -> None:
    token = "a-secret-of-the-gateway"
    with started(artifact, tmp_path / "log", {"SLIPWAY_SERVING_TOKEN": token}) as predictor:
        assert predictor.infer(patients.request()).status_code == 401
        predictor.client.headers["authorization"] = f"Bearer {token}"
        assert predictor.infer(patients.request()).status_code == 200
    assert token not in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("token", ["", "short"])
def test_a_weak_token_is_rejected_at_the_start(artifact: Path, tmp_path: Path, token: str) -> None:
    settings = {"SLIPWAY_SERVING_TOKEN": token}
    ended = subprocess.run(
        [PROGRAM, artifact],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("set SLIPWAY_SERVING_TOKEN: ")


LONG_DRAIN = {"SLIPWAY_SERVING_DRAIN_SECONDS": "5"}
"""A drain in which a busy machine sends a request on each connection."""


def test_a_running_request_finishes_after_sigterm(
    artifact: Path, patients: Fitted, tmp_path: Path
) -> None:
    with started(artifact, tmp_path / "log", LONG_DRAIN) as predictor:
        body = json.dumps(patients.request()).encode()
        url = predictor.client.base_url
        head = (
            "POST /v2/models/heart-3/infer HTTP/1.1\r\nHost: x\r\nContent-Length: "
            f"{len(body)}\r\n\r\n"
        )
        with socket.create_connection((url.host, url.port or 80), timeout=SECONDS) as connection:
            connection.sendall(head.encode() + body[:10])
            predictor.process.terminate()
            wait_for(
                "readiness false",
                lambda: predictor.client.get("/v2/models/heart-3/ready").status_code == 503,
            )
            assert predictor.infer(patients.request()).status_code == 200, (
                "requests during the drain time are served"
            )
            wait_for("no more connections", lambda: refused(url.host, url.port or 80))
            connection.sendall(body[10:])
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200 OK")
        assert predictor.process.wait(timeout=SECONDS) == 0


def test_no_request_is_lost_while_a_server_stops(
    artifact: Path, patients: Fitted, tmp_path: Path
) -> None:
    """Callers check readiness, as Kubernetes does, and honour ``Connection: close``."""
    with started(artifact, tmp_path / "log", LONG_DRAIN) as predictor:
        statuses: list[int] = []
        sent = threading.Event()

        def call() -> None:
            with httpx.Client(base_url=predictor.client.base_url, timeout=SECONDS) as client:
                while client.get("/v2/models/heart-3/ready").status_code == 200:
                    statuses.append(
                        client.post("/v2/models/heart-3/infer", json=patients.request()).status_code
                    )
                    sent.set()

        caller = threading.Thread(target=call)
        caller.start()
        assert sent.wait(timeout=SECONDS)
        predictor.process.terminate()
        caller.join(timeout=SECONDS)
        assert predictor.process.wait(timeout=SECONDS) == 0
    assert statuses
    assert set(statuses) == {200}


def test_keep_alive_connections_are_served_until_they_are_closed(
    artifact: Path, patients: Fitted, tmp_path: Path
) -> None:
    """Callers do not check readiness: 20 requests per second over 8 connections."""
    body, statuses, received = (
        json.dumps(patients.request()).encode(),
        list[int](),
        threading.Semaphore(0),
    )

    def call(address: str) -> None:
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        pause, last = threading.Event(), False
        while not last:
            connection.request(
                "POST", "/v2/models/heart-3/infer", body, {"content-type": "application/json"}
            )
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            received.release()
            last = response.getheader("connection") == "close"
            pause.wait(8 / 20)

    with (
        started(artifact, tmp_path / "log", LONG_DRAIN) as predictor,
        ThreadPoolExecutor(8) as threads,
    ):
        address = predictor.client.base_url.netloc.decode()
        callers = [threads.submit(call, address) for _ in range(8)]
        for _ in range(20):
            assert received.acquire(timeout=SECONDS)
        predictor.process.terminate()
        for caller in callers:
            caller.result(timeout=SECONDS)
        assert predictor.process.wait(timeout=SECONDS) == 0
    assert set(statuses) == {200}


def refused(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError:
        return True
    return False


def test_an_invalid_model_ends_the_program_with_3_and_one_line(
    patients: Fitted, tmp_path: Path
) -> None:
    folder = tmp_path / "mnt"
    write_artifact(folder, patients)
    write_model_settings(folder)
    (folder / "model.onnx").write_bytes(b"no graph")
    log = tmp_path / "termination-log"
    ended = subprocess.run(
        [PROGRAM, folder],
        cwd=tmp_path,
        env={"SLIPWAY_TERMINATION_LOG": str(log)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1].startswith(
        "model.onnx is not an ONNX model that can be loaded"
    )
    assert log.read_text().startswith("model.onnx is not an ONNX model that can be loaded")
    assert "Traceback" not in ended.stderr


def test_code_beside_the_model_is_not_executed(patients: Fitted, tmp_path: Path) -> None:
    folder = tmp_path / "mnt"
    write_artifact(folder, patients)
    write_model_settings(folder)
    for name in ("slipway_serving", "onnxruntime", "sitecustomize", "numpy"):
        (folder / f"{name}.py").write_text("raise SystemExit('ran code of the artifact')")
    with started(folder, tmp_path / "log") as predictor:
        assert predictor.infer(patients.request()).status_code == 200


@pytest.mark.slow
def test_a_wrong_setting_is_reported_by_its_variable(tmp_path: Path) -> None:
    settings = {"SLIPWAY_SERVING_THREADS": "none"}
    ended = subprocess.run(
        [PROGRAM, tmp_path],
        env=settings,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("set SLIPWAY_SERVING_THREADS: ")
