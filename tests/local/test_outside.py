"""A project outside of the checkout: the wheel of the SDK, and what the platform does with it."""

import re
import zipfile
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.local.conftest import LocalStack
from tests.support.outside import MODEL, SWEEP, build_wheels, installed_shell, new_project, walk

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]

SAMPLES = re.compile(r"\b(heart|ecg|imagenet|sales|sentiment|temperature|vader)\b", re.IGNORECASE)
"""Names of sample models, without those that are also words, such as quantity."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_wheels(tmp_path_factory.mktemp("wheels"))


def test_the_wheel_of_the_sdk_names_no_sample_model(wheels: list[Path]) -> None:
    (wheel,) = [each for each in wheels if each.name.startswith("slipway-")]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "slipway/template/train.py.txt" in names
        for name in names:
            found = SAMPLES.search(name + "\n" + archive.read(name).decode())
            assert found is None, f"{name} names {found}"


def test_a_project_of_the_wheel_is_served_tuned_by_its_schedule_rolled_back_and_monitored(
    stack: LocalStack, wheels: list[Path], tmp_path: Path
) -> None:
    before = sources()
    key = {"SLIPWAY_SIGNING_KEY": str(stack.state / "signing-key.pem")}
    shell = installed_shell(tmp_path, wheels, stack, key)
    job = {
        "args": SWEEP,
        "env": [{"name": "PYTHONPATH", "value": str(tmp_path / MODEL)}],
        "schedule": "* * * * *",
    }
    new_project(shell, {"training": {"job": job}})
    walk(stack, shell, "slipway apply -f fees/model.yaml")
    shell.run("slipway delete fees")
    assert len(shell.commands) <= 10, shell.commands
    assert sources() == before


def sources() -> dict[str, int]:
    """Return the times of change of the platform's files."""
    names = ("contract", "cluster", "controller", "gateway", "jobs", "local", "sdk", "serving")
    folders = [ROOT / name for name in (*names, "manifests", "charts", "examples")]
    return {
        str(path.relative_to(ROOT)): path.stat().st_mtime_ns
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__", "build"} & set(path.parts)
    }
