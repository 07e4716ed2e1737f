"""A 100-tree forest over HTTP: Slipway's runtime with ONNX and mlserver-sklearn with joblib.

    .venv-serving/bin/python -m bench.serving

One client, one connection, one request at a time; the contenders take turns in the same run, so
that a busy machine is busy for all. mlserver-sklearn gets the bare forest and its fastest request
(one tensor); Slipway imputes, takes 13 named columns and checks each value. Prints a Markdown
table; ends within a minute.

    .venv-serving/bin/python -m bench.serving --batching

Costs and benefits of adaptive batching: one row a request, over one connection and over many, with
and without it.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from tests.serving.artifacts import Fitted, Matrix, write_artifact, write_model_settings
from tests.support.predictor_process import started
from tests.support.processes import free_port, responds, running_process, wait_for_start

TREES, INPUTS = 100, 13
SIZES = (1, 1024)
ROUNDS = 4
SECONDS_A_TURN = 1.0
CONNECTIONS = (1, 16)
BATCHING = {"off": (0, 0.0), "32 requests, 1 ms": (32, 0.001), "32 requests, 5 ms": (32, 0.005)}
"""Maximum requests in a batch, and seconds that the first one waits."""
SIGNATURE = Signature(
    inputs=tuple(
        Column(name=f"x{i}", datatype=Datatype.FP32, minimum=-100, maximum=100, missing=i > 1)
        for i in range(INPUTS)
    ),
    outputs=(
        Column(name="label", datatype=Datatype.INT64),
        Column(name="probability", datatype=Datatype.FP32),
    ),
)


@dataclass
class Contender:
    """A server under load; ``seconds`` has its response times by number of rows."""

    name: str
    port: int
    path: str
    bodies: dict[int, bytes]
    seconds: dict[int, list[float]] = field(default_factory=lambda: {rows: [] for rows in SIZES})

    def turn(self, rows: int, length: float, uncounted: int = 3) -> None:
        """Send requests for ``length`` seconds; the first ones of a turn are not counted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        for _ in range(uncounted):
            self._ask(connection, rows)
        end = time.perf_counter() + length
        while time.perf_counter() < end:
            self.seconds[rows].append(self._ask(connection, rows))
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, rows: int) -> float:
        begin = time.perf_counter()
        connection.request(
            "POST", self.path, self.bodies[rows], {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        content = answer.read()
        taken = time.perf_counter() - begin
        if answer.status != 200:
            raise SystemExit(f"{self.name}: status {answer.status}: {content[:200]!r}")
        return taken


def forest() -> Fitted:
    """Return a forest fitted on random rows: only its size matters here."""
    rng = np.random.default_rng(0)
    rows: Matrix = rng.normal(size=(1000 + max(SIZES), INPUTS)).astype(np.float32)
    classes = (rows[:, 0] + rows[:, 1] * rows[:, 2] > 0).astype(int)
    model = make_pipeline(SimpleImputer(), RandomForestClassifier(TREES, random_state=0)).fit(
        rows[:1000], classes[:1000]
    )
    return Fitted(model, rows[1000:], SIGNATURE)


@contextmanager
def sklearn_server(folder: Path, model: Any) -> Iterator[int]:
    """Run ``mlserver start`` with mlserver-sklearn and yield its port."""
    folder.mkdir()
    joblib.dump(model, folder / "model.joblib")
    settings = {
        "name": "forest",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
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
    with running_process(
        command, log, environment=environment, folder=folder.parent, stop=signal.SIGKILL
    ) as process:
        wait_for_start(process, log, responds(f"http://127.0.0.1:{port}/v2/models/forest/ready"))
        yield port


def one_tensor(rows: Matrix, *outputs: str) -> bytes:
    """Return the fastest request for mlserver-sklearn."""
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(rows.shape),
        "data": rows.ravel().tolist(),
    }
    return json.dumps(
        {"inputs": [tensor], "outputs": [{"name": name} for name in outputs]}
    ).encode()


def contenders(ours: int, theirs: int, fitted: Fitted) -> list[Contender]:
    """Return the contenders, Slipway first as the baseline."""
    rows = {size: fitted.rows[:size] for size in SIZES}
    infer = "/v2/models/{}/infer"
    both = ("predict", "predict_proba")
    return [
        Contender(
            "Slipway, ONNX",
            ours,
            infer.format("heart-3"),
            {n: json.dumps(fitted.request(r)).encode() for n, r in rows.items()},
        ),
        Contender(
            "mlserver-sklearn",
            theirs,
            infer.format("forest"),
            {n: one_tensor(r, *both) for n, r in rows.items()},
        ),
        Contender(
            "mlserver-sklearn, label only",
            theirs,
            infer.format("forest"),
            {n: one_tensor(r, "predict") for n, r in rows.items()},
        ),
    ]


def table(measured: list[Contender]) -> Iterator[str]:
    """Yield a table of times in milliseconds; the ratio is that of the medians."""
    yield (
        f"{TREES}-tree forest, {INPUTS} inputs, label and probability over HTTP, one client, "
        f"{os.cpu_count()} CPUs\n"
    )
    yield "| rows | server | p50 ms | p99 ms | requests/s | Slipway is faster by |"
    yield "|---:|---|---:|---:|---:|---:|"
    for rows in SIZES:
        base = float(np.median(measured[0].seconds[rows]))
        for contender in measured:
            p50, p99 = np.percentile(contender.seconds[rows], [50, 99])
            rate = 1 / np.mean(contender.seconds[rows])
            ratio = "" if contender is measured[0] else f"{p50 / base:.1f} ×"
            yield (
                f"| {rows:,} | {contender.name} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} | "
                f"{rate:,.0f} | {ratio} |"
            )


@dataclass
class Switched:
    """A Slipway server with one batching setting; ``seconds`` are by number of connections."""

    format: ArtifactFormat
    batching: str
    process: int
    caller: Contender
    seconds: dict[int, list[float]] = field(
        default_factory=lambda: {count: [] for count in CONNECTIONS}
    )
    elapsed: dict[int, float] = field(default_factory=lambda: dict.fromkeys(CONNECTIONS, 0.0))
    cpu: dict[int, float] = field(default_factory=lambda: dict.fromkeys(CONNECTIONS, 0.0))

    def turn(self, connections: int, length: float) -> None:
        """Send requests for ``length`` seconds over each connection."""
        self.caller.turn(1, 0)
        callers = [replace(self.caller, seconds={1: []}) for _ in range(connections)]
        begin, used = time.perf_counter(), self._cpu()
        with ThreadPoolExecutor(connections) as threads:
            list(threads.map(lambda caller: caller.turn(1, length, uncounted=0), callers))
        self.elapsed[connections] += time.perf_counter() - begin
        self.cpu[connections] += self._cpu() - used
        for caller in callers:
            self.seconds[connections] += caller.seconds[1]

    def _cpu(self) -> float:
        """Return the CPU seconds of the server."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def batching_table(measured: list[Switched]) -> Iterator[str]:
    """Yield a table by format and number of connections, without batching first."""
    yield (
        f"{TREES}-tree forest, {INPUTS} inputs, one row a request over HTTP, {os.cpu_count()} "
        "CPUs\n"
    )
    yield (
        "| format | connections | batching | p50 ms | p99 ms | requests/s | server CPU ms a "
        "request |"
    )
    yield "|---|---:|---|---:|---:|---:|---:|"
    for format in (ArtifactFormat.ONNX, ArtifactFormat.SKOPS):
        for count in CONNECTIONS:
            for each in measured:
                if each.format is format:
                    times = each.seconds[count]
                    p50, p99 = np.percentile(times, [50, 99]) * 1e3
                    rate, cpu = len(times) / each.elapsed[count], each.cpu[count] / len(times) * 1e3
                    yield (
                        f"| {format} | {count} | {each.batching} | {p50:.2f} | {p99:.2f} | "
                        f"{rate:,.0f} | {cpu:.2f} |"
                    )


def measure_batching() -> None:
    """Measure every setting in its own server; the servers take turns."""
    fitted = forest()
    body = json.dumps(fitted.request(fitted.rows[:1])).encode()
    measured = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for format in (ArtifactFormat.ONNX, ArtifactFormat.SKOPS):
            write_artifact(folder / format, fitted, format)
            write_model_settings(folder / format, format)
            for name, (size, seconds) in BATCHING.items():
                switch = {
                    "MLSERVER_MODEL_MAX_BATCH_SIZE": str(size),
                    "MLSERVER_MODEL_MAX_BATCH_TIME": str(seconds),
                }
                server = stack.enter_context(
                    started(folder / format, folder / f"{format}-{size}-{seconds}.log", switch)
                )
                caller = Contender(
                    name, server.client.base_url.port or 80, "/v2/models/heart-3/infer", {1: body}
                )
                measured.append(Switched(format, name, server.process.pid, caller))
        for _ in range(ROUNDS):
            for count in CONNECTIONS:
                for each in measured:
                    each.turn(count, SECONDS_A_TURN)
    sys.stdout.write("\n".join(batching_table(measured)) + "\n")


def compare_servers() -> None:
    """Start both servers, measure them in turns, and print the table."""
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


def main() -> None:
    """Execute the comparison that the command line selects."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batching", action="store_true", help="measure adaptive batching")
    if parser.parse_args().batching:
        measure_batching()
    else:
        compare_servers()


if __name__ == "__main__":
    main()
