"""The command ``slipway`` on the local stack, as a user calls it, by the stack's profiles."""

import json
import subprocess
from typing import Any

import pytest

from tests.local.conftest import LocalStack, environment
from tests.support.processes import installed
from tests.support.stack import PATIENT

pytestmark = pytest.mark.stack

SLIPWAY = str(installed("slipway", ".venv"))
ROW = [f"{name}={value}" for name, value in PATIENT.items()]


def slipway(stack: LocalStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in environment(stack.state).items() if not k.startswith("SLIPWAY_")}
    return subprocess.run(
        [SLIPWAY, *arguments], env=inherited, capture_output=True, text=True, check=False
    )


def answer(stack: LocalStack, *arguments: str) -> Any:
    done = slipway(stack, *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_user_predicts_labels_and_reads_the_receipt(stack: LocalStack) -> None:
    assert answer(stack, "whoami")["account"] == "user"
    names = slipway(stack, "models", "-o", "name").stdout.split()
    assert {"heart", "digits"} <= set(names)
    key = answer(stack, "predict", "heart", "--row", *ROW)["requestId"]
    assert slipway(stack, "label", key, "1").returncode == 0
    receipt = answer(stack, "receipt", key)
    assert (receipt["model"], receipt["feedback"]["label"]) == ("heart", 1)
    refused = slipway(stack, "predict", "heart", "--row", "age=167", *ROW[1:])
    assert refused.returncode == 3
    assert "167" in refused.stderr
    assert slipway(stack, "promote", "heart", "1", "--dry-run").returncode == 3  # a user may not


def test_a_scientist_asks_the_gate_and_an_admin_reads_the_audit(stack: LocalStack) -> None:
    scientist = ("--profile", "local-scientist")
    live = answer(stack, "model", "heart", *scientist)["version"]
    promotion = answer(stack, "promote", "heart", live, "--dry-run", *scientist)
    assert promotion["result"]["state"] == "unchanged"
    assert slipway(stack, "trainings", "heart", *scientist).returncode == 0
    assert answer(stack, "audit", "--profile", "local-admin")["entries"]
    assert (stack.state.parent / "slipway/tokens.json").stat().st_mode & 0o077 == 0
