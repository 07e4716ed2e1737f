"""``slipway init`` writes a project that trains, and files of Models are read with care."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slipway.registry.tracking import Tracking

from tests.documents import ROOT, blocks
from tests.support.processes import installed

PAGE = ROOT / "docs/how-to/logging.md"
SLIPWAY = str(installed("slipway", ".venv"))
UNREACHABLE = {"SLIPWAY_URL": "http://127.0.0.1:9", "SLIPWAY_TOKEN": "t"}


def slipway(
    *arguments: str, folder: Path, given: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SLIPWAY_")}
    return subprocess.run(
        [SLIPWAY, *arguments], cwd=folder, input=given,
        env=clean | {"XDG_CONFIG_HOME": str(folder / "config")} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_new_project_passes_its_tests_and_logs_a_version(
    tmp_path: Path, tracking: Tracking, mlflow_url: str
) -> None:
    """Run the commands of docs/how-to/logging.md."""
    (commands,) = [each for each in blocks(PAGE) if "slipway init" in each.commands]
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-euc", commands.commands], cwd=tmp_path, capture_output=True, text=True,
        check=False, env=os.environ | {"MLFLOW_TRACKING_URI": mlflow_url, "PATH": programs},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
    assert "output  label" in run.stdout
    code = (tmp_path / "lost-customers/lost_customers/train.py").read_text().splitlines()
    assert len(code) <= 40
    assert max(map(len, code)) <= 100
    version = tracking.version("lost-customers", "1")
    assert tracking.metrics(version)["evaluation_accuracy"] > 0.5


@pytest.mark.parametrize("name", ["Churn", "a b", "class", "../up"])
def test_a_project_needs_the_name_of_a_model(tmp_path: Path, name: str) -> None:
    done = slipway("init", name, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"slipway: name: {name!r} is ")
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_project_have_the_name_in_all_places(tmp_path: Path) -> None:
    slipway("init", "my-churn", folder=tmp_path)
    texts = {path.name: path.read_text() for path in (tmp_path / "my-churn").rglob("*.*")}
    assert [name for name, text in texts.items() if "PACKAGE" in text or "MODEL" in text] == []
    assert "name: my-churn" in texts["model.yaml"]
    image = (tmp_path / "my-churn/Dockerfile").read_text()
    assert "COPY my_churn /opt/" in image  # pods mount an empty /tmp


def test_a_project_replaces_no_files(tmp_path: Path) -> None:
    (tmp_path / "churn").mkdir()
    (tmp_path / "churn/own.txt").touch()
    done = slipway("init", "churn", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "churn: exists and is not empty; give another --folder" in done.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no Model; write one, or create one by slipway init"),
        ("{", "is not YAML: "),
        ("kind: Secret", "document 1 is a Secret; only Models can be applied"),
        ("- kind: Model", "document 1 is a list; only Models can be applied"),
        ("kind: Model", "document 1 has no metadata.name; write one"),
    ],
)
def test_a_file_that_has_other_objects_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    done = slipway("apply", "-f", "-", folder=tmp_path, given=text, **UNREACHABLE)
    assert done.returncode == 2
    assert problem in done.stderr


def test_a_missing_address_or_token_is_named(tmp_path: Path) -> None:
    done = slipway("get", folder=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "slipway: SLIPWAY_URL: is not set; set it to the URL of the gateway, or run slipway "
        "login URL\n",
    )  # fmt: skip
    done = slipway("get", folder=tmp_path, SLIPWAY_URL="http://127.0.0.1:9")
    assert "SLIPWAY_TOKEN: is not set" in done.stderr


def test_a_gateway_that_does_not_respond_is_named(tmp_path: Path) -> None:
    done = slipway("get", folder=tmp_path, **UNREACHABLE)
    assert done.returncode == 1
    assert "gateway http://127.0.0.1:9 does not respond: " in done.stderr
