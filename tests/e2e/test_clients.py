"""Unmodified clients of other projects work with the gateway."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import KindStack, helm
from tests.support.stack import PATIENT

PYTHON = Path(".venv-clients/bin/python")


@pytest.mark.parametrize("client", ["tritonclient_json", "tritonclient_binary", "kserve_sdk"])
def test_a_client_of_another_project_gets_a_prediction(stack: KindStack, client: str) -> None:
    script = Path(__file__).parent / "clients" / f"{client}.py"
    done = subprocess.run(
        [PYTHON, script, stack.url, stack.token("user"), json.dumps(PATIENT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "heart label 1"


def test_helm_test_passes(stack: KindStack) -> None:  # noqa: ARG001 - needs a platform
    assert "Succeeded" in helm("test", "slipway", "--timeout", "4m")
