"""The conformance checks of the V2 protocol against the gateway and the Slipway runtime."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance import every
from tests.conformance.checks import Check
from tests.conformance.served import Served
from tests.conformance.servers import GATEWAY, cases, table
from tests.gateway.environment import Environment
from tests.support.predictor_process import started

PAGE = Path("docs/reference/conformance.md")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Provide the URL of a predictor with the model ``every``, as the controller sets it."""
    folder = tmp_path_factory.mktemp("every")
    every.write_artifact(folder / "mnt")
    with started(folder / "mnt", folder / "log", name="every-3") as predictor:
        yield str(predictor.client.base_url).rstrip("/")


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
