"""A 100-tree forest over HTTP: our runtime on ONNX against mlserver-sklearn on joblib, both in MLServer.

    .venv-serving/bin/python -m bench.serving

One client, one connection, one request at a time; the contenders take turns in the same run, so that a busy machine is busy
for all. mlserver-sklearn gets the bare forest and the request that it is fastest with (one tensor); ours imputes, takes 13
named columns and checks each value. Prints a Markdown table; ends within a minute.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from tests.serving.artifacts import Fitted, Matrix, write_artifact, write_model_settings
from tests.serving.predictor import started
from tests.serving.tracking_server import free_port, wait_until_up

TREES, INPUTS = 100, 13
SIZES = (1, 1024)
ROUNDS = 4
SECONDS_A_TURN = 1.0
SIGNATURE = Signature(
    inputs=tuple(Column(name=f"x{i}", datatype=Datatype.FP32, minimum=-100, maximum=100, missing=i > 1) for i in range(INPUTS)),
    outputs=(Column(name="label", datatype=Datatype.INT64), Column(name="probability", datatype=Datatype.FP32)),
)


@dataclass
class Contender:
    """A way to ask a server the same question; ``seconds`` are the times of its answers by number of rows."""

    name: str
    port: int
    path: str
    bodies: dict[int, bytes]
    seconds: dict[int, list[float]] = field(default_factory=lambda: {rows: [] for rows in SIZES})

    def turn(self, rows: int, length: float) -> None:
        """Ask for ``length`` seconds. The first answers of a turn are not counted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        for _ in range(3):
            self._ask(connection, rows)
        end = time.perf_counter() + length
        while time.perf_counter() < end:
            self.seconds[rows].append(self._ask(connection, rows))
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, rows: int) -> float:
        begin = time.perf_counter()
        connection.request("POST", self.path, self.bodies[rows], {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        taken = time.perf_counter() - begin
        if answer.status != 200:
            raise SystemExit(f"{self.name}: status {answer.status}: {content[:200]!r}")
        return taken


def forest() -> Fitted:
    """Fitted on made-up rows: only its size matters here."""
    rng = np.random.default_rng(0)
    rows: Matrix = rng.normal(size=(1000 + max(SIZES), INPUTS)).astype(np.float32)
    classes = (rows[:, 0] + rows[:, 1] * rows[:, 2] > 0).astype(int)
    model = make_pipeline(SimpleImputer(), RandomForestClassifier(TREES, random_state=0)).fit(rows[:1000], classes[:1000])
    return Fitted(model, rows[1000:], SIGNATURE)


@contextmanager
def sklearn_server(folder: Path, model: Any) -> Iterator[int]:
    """``mlserver start`` with mlserver-sklearn; gives its port."""
    folder.mkdir()
    joblib.dump(model, folder / "model.joblib")
    settings = {"name": "forest", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"}}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    port = free_port()
    environment = {
        **os.environ,
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(free_port()),
        "MLSERVER_METRICS_PORT": str(free_port()),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
    }
    command = [str(Path(sys.executable).with_name("mlserver")), "start", str(folder)]
    log = folder.parent / "sklearn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder.parent, env=environment, stdout=output, stderr=output)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/v2/models/forest/ready", process, log, seconds=60)
        yield port
    finally:
        process.kill()
        process.wait()


def one_tensor(rows: Matrix, *outputs: str) -> bytes:
    """The request that mlserver-sklearn is fastest with."""
    tensor = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": name} for name in outputs]}).encode()


def contenders(ours: int, theirs: int, fitted: Fitted) -> list[Contender]:
    """Ours first: the others are compared with it."""
    rows = {size: fitted.rows[:size] for size in SIZES}
    infer = "/v2/models/{}/infer"
    both = ("predict", "predict_proba")
    return [
        Contender(
            "Slipway, ONNX", ours, infer.format("heart-3"), {n: json.dumps(fitted.request(r)).encode() for n, r in rows.items()}
        ),
        Contender("mlserver-sklearn", theirs, infer.format("forest"), {n: one_tensor(r, *both) for n, r in rows.items()}),
        Contender(
            "mlserver-sklearn, label only", theirs, infer.format("forest"), {n: one_tensor(r, "predict") for n, r in rows.items()}
        ),
    ]


def table(measured: list[Contender]) -> Iterator[str]:
    """Times in milliseconds; the ratio is that of the medians."""
    yield f"{TREES}-tree forest, {INPUTS} inputs, label and probability over HTTP, one client, {os.cpu_count()} CPUs\n"
    yield "| rows | server | p50 ms | p99 ms | requests/s | Slipway is faster by |"
    yield "|---:|---|---:|---:|---:|---:|"
    for rows in SIZES:
        base = float(np.median(measured[0].seconds[rows]))
        for contender in measured:
            p50, p99 = np.percentile(contender.seconds[rows], [50, 99])
            rate = 1 / np.mean(contender.seconds[rows])
            ratio = "" if contender is measured[0] else f"{p50 / base:.1f} ×"
            yield f"| {rows:,} | {contender.name} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} | {rate:,.0f} | {ratio} |"


def main() -> None:
    """Start both, take turns, print."""
    fitted = forest()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_artifact(folder / "onnx", fitted)
        write_model_settings(folder / "onnx")
        ours = stack.enter_context(started(folder / "onnx", folder / "onnx.log"))
        theirs = stack.enter_context(sklearn_server(folder / "joblib", fitted.estimator[-1]))
        measured = contenders(ours.client.base_url.port or 80, theirs, fitted)
        for _ in range(ROUNDS):
            for rows in SIZES:
                for contender in measured:
                    contender.turn(rows, SECONDS_A_TURN)
    sys.stdout.write("\n".join(table(measured)) + "\n")


if __name__ == "__main__":
    main()
