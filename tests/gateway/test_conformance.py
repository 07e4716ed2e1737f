"""The conformance checks of the V2 protocol against the gateway and the Slipway runtime."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance import every
from tests.conformance.checks import Check
from tests.conformance.served import Served
from tests.conformance.servers import GATEWAY, cases, table
from tests.gateway.environment import Environment
from tests.support.processes import free_port, responds, running_process, wait_for_start

PROGRAM = Path(".venv-serving/bin/slipway-serve").absolute()
PAGE = Path("docs/reference/conformance.md")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Provide the URL of a predictor with the model ``every``, as the controller sets it."""
    folder, log, port = (
        tmp_path_factory.mktemp("every") / "mnt",
        tmp_path_factory.mktemp("log") / "log",
        free_port(),
    )
    every.write_artifact(folder)
    given = {
        "HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
        "METRICS_PORT": str(free_port()),
        "MODEL_NAME": "every-3",
    }
    variables = {**os.environ, **{f"MLSERVER_{name}": value for name, value in given.items()}}
    url = f"http://127.0.0.1:{port}"
    with running_process(
        [PROGRAM, folder], log, environment=variables, folder=log.parent, stop=signal.SIGKILL
    ) as process:
        wait_for_start(process, log, responds(f"{url}/v2/models/every-3/ready"))
        yield url


@pytest.fixture(scope="module")
def served(new_environment: Callable[[], Environment], runtime: str) -> Iterator[Served]:
    environment = new_environment()
    environment.model("every", (every.VERSION, 100), url=runtime)
    with environment.gateway(upstream_timeout_seconds=15) as client:
        client.http.headers.update(
            {"authorization": f"Bearer {environment.issuer.token()}", "accept-encoding": "identity"}
        )
        yield Served(client.http, "every", every.VERSION, every.EXAMPLE, every.NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("check", cases(GATEWAY))
def test_the_gateway_conforms_to_the_protocol(check: Check, served: Served) -> None:
    check(served)


@pytest.mark.slow
def test_the_page_matches_the_tests() -> None:
    assert table() in PAGE.read_text(), f"{PAGE} should have:\n{table()}"
