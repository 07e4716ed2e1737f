"""The protocol's checks of our runtime, and of plain MLServer."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conformance import every
from tests.conformance.checks import Check
from tests.conformance.served import Served
from tests.conformance.servers import RUNTIME, STOCK, cases
from tests.support.predictor_process import PROGRAM, started
from tests.support.processes import free_port, responds, running_process, wait_for_start
from tests.support.waiting import SECONDS

PLAIN = {"accept-encoding": "identity"}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("runtime")
    every.write_artifact(folder / "mnt")
    with started(folder / "mnt", folder / "log") as predictor:
        predictor.client.headers.update(PLAIN)
        yield Served(predictor.client, "heart-3", every.VERSION, every.EXAMPLE, every.NAMES)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Plain ``mlserver start``, but without stack traces in responses and without parallel workers.

    uvloop crashes the workers.
    """
    folder, port = tmp_path_factory.mktemp("stock"), free_port()
    every.write_stock(folder / "model", "every")
    given = {
        "HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
        "GRPC_PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
    }
    given |= {"PARALLEL_WORKERS": "0", "DEBUG": "false"}
    known = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MLSERVER_", "SLIPWAY_"))
    }
    environment = {**known, **{f"MLSERVER_{name}": value for name, value in given.items()}}
    command: list[str | Path] = [PROGRAM.with_name("mlserver"), "start", folder / "model"]
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    with (
        running_process(
            command, log, environment=environment, folder=folder / "model", stop=signal.SIGKILL
        ) as process,
        httpx.Client(base_url=url, timeout=SECONDS, headers=PLAIN) as client,
    ):
        wait_for_start(process, log, responds(f"{url}/v2/models/every/ready"))
        yield Served(client, "every", every.VERSION, every.EXAMPLE, every.NAMES)


@pytest.mark.parametrize("check", cases(RUNTIME))
def test_our_runtime_conforms_to_the_protocol(check: Check, runtime: Served) -> None:
    check(runtime)


@pytest.mark.slow
@pytest.mark.parametrize("check", cases(STOCK))
def test_mlserver_behaves_as_the_page_documents(check: Check, stock: Served) -> None:
    check(stock)
