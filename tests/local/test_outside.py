"""A project outside of the checkout: the wheel of the SDK, and what the platform serves of it."""

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.documents import ROOT
from tests.local.conftest import START_SECONDS, LocalStack
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]

DISTRIBUTIONS = ("contract", "sdk")
SAMPLES = re.compile(r"\b(heart|ecg|imagenet|sales|sentiment|temperature|vader)\b", re.IGNORECASE)
"""Names of sample models, without those that are also words, such as quantity."""

ROW = {"monthly fee": 61.5, "age": 71, "city": "Köln", "channel": "shop", "plan": "gold"}


@dataclass
class Shell:
    """Commands of a user, in a folder of the user's own."""

    folder: Path
    environment: dict[str, str]
    token: Callable[[], str]
    """Returns a token that is valid for some minutes."""
    commands: list[str] = field(default_factory=list)

    def run(self, command: str) -> str:
        self.commands.append(command)
        environment = {**self.environment, "SLIPWAY_TOKEN": self.token()}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=self.folder, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def post(self, path: str, body: Any) -> Any:
        curl = "curl -sS --fail --retry 8 --retry-all-errors"  # a body only of the last response
        headers = '-H "Content-Type: application/json" -H "Authorization: Bearer $SLIPWAY_TOKEN"'
        return json.loads(self.run(f"{curl} $SLIPWAY_URL{path} {headers} -d '{json.dumps(body)}'"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the wheels of the SDK and of the contract, built from copies of their sources."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in DISTRIBUTIONS:
        sources = folder / name
        shutil.copytree(
            ROOT / name,
            sources,
            ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"),
        )
        uv("build", "--quiet", "--wheel", "--no-build-isolation", "--python",
           ROOT / ".venv/bin/python", "--out-dir", folder / "dist", sources)  # fmt: skip
    return sorted((folder / "dist").glob("*.whl"))


def uv(*arguments: Any) -> None:
    program = shutil.which("uv") or ROOT / ".uv/bin/uv"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_of_the_sdk_names_no_sample_model(wheels: list[Path]) -> None:
    (wheel,) = [each for each in wheels if each.name.startswith("slipway-")]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "slipway/template/train.py.txt" in names
        for name in names:
            found = SAMPLES.search(name + "\n" + archive.read(name).decode())
            assert found is None, f"{name} names {found}"


def test_a_project_of_the_wheel_is_served_gated_rolled_back_and_monitored(
    stack: LocalStack, wheels: list[Path], tmp_path: Path
) -> None:
    before = sources()
    environment = tmp_path / "venv"
    uv("venv", "--quiet", "--python", ROOT / ".venv/bin/python", environment)
    names = {each.name.partition("-")[0]: each for each in wheels}
    uv(
        "pip", "install", "--quiet", "--python", environment / "bin/python",
        "--constraint", constraints(tmp_path),
        f"slipway[training] @ {names['slipway'].as_uri()}", names["slipway_contract"],
    )  # fmt: skip
    shell = Shell(
        tmp_path,
        {
            "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "MLFLOW_TRACKING_URI": stack.mlflow_url,
            "SLIPWAY_URL": stack.url,
            "SLIPWAY_SIGNING_KEY": str(stack.state / "signing-key.pem"),
        },
        lambda: stack.token("scientist"),
    )
    assert "slipway_jobs" not in shell.run("python -c 'import slipway; print(slipway.__file__)'")
    shell.commands.clear()

    shell.run("slipway init fees")
    own_data_and_pipeline(tmp_path / "fees/fees", rows="[:30]")
    assert "fees: onnx" in shell.run("cd fees && python -m fees.train")
    shell.run("slipway apply -f fees/model.yaml")
    assert promoted(stack, shell, {"version": "1"})["state"] == "promoted"
    wait_for("version 1", lambda: serves(stack, "1"), START_SECONDS)
    rows = [ROW, ROW | {"monthly fee": None, "city": None, "channel": None}]
    given = shell.post("/v1/models/fees/predictions", {"instances": rows})
    assert given["version"] == "1"
    assert [each["label"] for each in given["predictions"]] == ["yes", "yes"]

    own_data_and_pipeline(tmp_path / "fees/fees", rows="")
    shell.run("cd fees && python -m fees.train")
    result = promoted(stack, shell, {"version": "2"})
    assert (result["state"], result["decision"]) == ("promoted", "better")
    wait_for("version 2", lambda: serves(stack, "2"), START_SECONDS)
    back = {"version": "1", "rollback": True, "reason": "the new version was a trial"}
    promoted(stack, shell, back)
    wait_for("version 1 again", lambda: serves(stack, "1"), START_SECONDS)

    with stack.client("scientist") as client:
        receipt = f"/v1/predictions/{given['requestId']}"
        wait_for("the shipped event", lambda: client.get(receipt).status_code == 200)
    report = stack.job("monitor", "fees", "--window", "1h", "--min-rows", "1")
    assert (report["status"], report["version"], report["rows"]) == ("Complete", "1", len(rows))
    shell.run("slipway delete fees")
    assert len(shell.commands) <= 9, shell.commands  # the tenth is pip install
    assert sources() == before


def constraints(folder: Path) -> Path:
    """Write the versions of the lock, which are in uv's cache, without their hashes."""
    lock = (ROOT / "requirements/dev.txt").read_text()
    file = folder / "constraints.txt"
    file.write_text("\n".join(re.findall(r"^(\S+==[^\\]+) \\$", lock, re.MULTILINE)))
    return file


def own_data_and_pipeline(package: Path, rows: str) -> None:
    """Replace sample data and pipeline of the project; ``rows`` are those that the model learns."""
    random = np.random.default_rng(0)
    count = 1000
    table = pd.DataFrame(
        {
            "monthly fee": random.normal(50, 25, count).round(2),
            "age": random.integers(18, 80, count),
            "city": random.choice(["Bonn", "Essen", "Köln"], count),
            "channel": random.choice(["web", "shop"], count),
            "plan": random.choice(["basic", "gold"], count),
        }
    )
    score = (table["age"] - 48) / 10 + (table["plan"] == "gold") + (table["city"] == "Bonn") * 2
    table["left"] = np.where(score + random.normal(0, 1, count) > 1, "yes", "no")
    for number, name in enumerate(["monthly fee", "city", "channel"]):
        table.loc[number :: 7 + number, name] = None
    table.to_csv(package / "sample.csv", index=False)
    code = (package / "train.py").read_text()
    code = re.sub(
        r"fit\(train.*\)", f"fit(train{rows}, train_truth{rows})", code.replace("[:30]", "")
    )
    (package / "train.py").write_text(code)


def promoted(stack: LocalStack, shell: Shell, body: dict[str, Any]) -> dict[str, Any]:
    created = shell.post("/v1/models/fees/promotions", body)
    path = f"/v1/models/fees/promotions/{created['promotionId']}"
    with stack.client("scientist") as client:
        ended = wait_for(
            "the promotion",
            lambda: (
                (found := client.get(path).json()).get("state") in ("succeeded", "failed") and found
            ),
            START_SECONDS,
        )
    result: dict[str, Any] = ended["result"] or {}
    assert ended["state"] == "succeeded", ended
    return result


def serves(stack: LocalStack, version: str) -> bool:
    return stack.live("fees") == version


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
