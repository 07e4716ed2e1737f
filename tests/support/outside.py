"""A project outside of the checkout, on any platform: commands of a user, and what they show."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from slipway_contract.model import RollbackState

from tests.documents import ROOT
from tests.support.stack import RunningStack
from tests.support.waiting import wait_for

DISTRIBUTIONS = ("contract", "sdk")
MODEL = "fees"
ROW = {"monthly fee": 61.5, "age": 71, "city": "Köln", "channel": "shop", "plan": "gold"}
ROWS = [ROW, ROW | {"monthly fee": None, "city": None, "channel": None}]
SWEEP = ["tune", f"{MODEL}.task:task", "--trials=2", "--set=folds=2"]
"""Arguments of ``python -m slipway_jobs`` for a training by the schedule."""
WAIT_SECONDS = 400.0


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


def build_wheels(folder: Path) -> list[Path]:
    """Return the wheels of the SDK and of the contract, built from copies of their sources."""
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


def installed_shell(
    folder: Path,
    wheels: Sequence[Path],
    stack: RunningStack,
    variables: Mapping[str, str],
    programs: str = "/usr/bin:/bin",
) -> Shell:
    """Return a shell in the folder with ``slipway[training]`` of the wheels.

    ``programs`` is the PATH without it.
    """
    environment = folder / "venv"
    uv("venv", "--quiet", "--python", ROOT / ".venv/bin/python", environment)
    names = {each.name.partition("-")[0]: each for each in wheels}
    uv(
        "pip", "install", "--quiet", "--python", environment / "bin/python",
        "--constraint", _constraints(folder),
        f"slipway[training] @ {names['slipway'].as_uri()}", names["slipway_contract"],
    )  # fmt: skip
    known = {
        "PATH": f"{environment / 'bin'}:{programs}",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "MLFLOW_TRACKING_URI": stack.mlflow_url,
        "SLIPWAY_URL": stack.url,
    }
    shell = Shell(folder, {**known, **variables}, lambda: stack.token("scientist"))
    assert str(ROOT) not in shell.run("python -c 'import slipway; print(slipway.__file__)'")
    shell.commands.clear()
    shell.commands.append("pip install 'slipway[training]'")
    return shell


def _constraints(folder: Path) -> Path:
    """Write the versions of the lock, which are in uv's cache, without their hashes."""
    lock = (ROOT / "requirements/dev.txt").read_text()
    file = folder / "constraints.txt"
    file.write_text("\n".join(re.findall(r"^(\S+==[^\\]+) \\$", lock, re.MULTILINE)))
    return file


def new_project(shell: Shell, spec: Mapping[str, Any]) -> None:
    """Create the project, replace its sample data, and extend the Model, as a user does.

    The first version learns from few rows, so that a training on all rows is better.
    """
    shell.run(f"slipway init {MODEL}")
    folder = shell.folder / MODEL
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
    table.to_csv(folder / MODEL / "sample.csv", index=False)
    code = folder / MODEL / "train.py"
    code.write_text(
        code.read_text().replace("(train, train_truth)", "(train[:30], train_truth[:30])")
    )
    declared = yaml.safe_load((folder / "model.yaml").read_text())
    declared["spec"] |= spec
    (folder / "model.yaml").write_text(yaml.safe_dump(declared))


def walk(stack: RunningStack, shell: Shell, declare: str) -> None:
    """Go from a fitted model to a scheduled retraining, its rollback and a drift report.

    ``declare`` is the command that applies ``fees/model.yaml``.
    """
    assert f"{MODEL}: onnx" in shell.run(f"cd {MODEL} && python -m {MODEL}.train")
    shell.run(declare)
    assert _promoted(stack, shell, "1")["state"] == "promoted"
    _wait_live(stack, "1")
    given = shell.post(f"/v1/models/{MODEL}/predictions", {"instances": ROWS})
    assert given["version"] == "1"
    assert [each["label"] for each in given["predictions"]] == ["yes", "yes"]

    tuned = _scheduled(stack)
    assert tuned["result"]["state"] == "tuned", tuned
    better = tuned["result"]["version"]
    result = _promoted(stack, shell, better)
    assert (result["state"], result["decision"]) == ("promoted", "better")
    _wait_live(stack, better)
    back = shell.post(f"/v1/models/{MODEL}/rollback", {"reason": "the new version was a trial"})
    assert (back["version"], back["insteadOf"]) == ("1", [better])
    wait_for("the alias to be moved back", lambda: _has_ended(stack), WAIT_SECONDS)
    _wait_live(stack, "1")

    with stack.client("scientist") as client:
        receipt = f"/v1/predictions/{given['requestId']}"
        wait_for("the shipped event", lambda: client.get(receipt).status_code == 200)
    shell.commands.append("kubectl create job --from=cronjob/monitor …")
    report = stack.job("monitor", MODEL, "--window", "1h", "--min-rows", "1")
    assert (report["status"], report["version"], report["rows"]) == ("Complete", "1", len(ROWS))


def _promoted(stack: RunningStack, shell: Shell, version: str) -> dict[str, Any]:
    created = shell.post(f"/v1/models/{MODEL}/promotions", {"version": version})
    path = f"/v1/models/{MODEL}/promotions/{created['promotionId']}"
    with stack.client("scientist") as client:
        ended = wait_for("the promotion", lambda: _ended(client.get(path).json()), WAIT_SECONDS)
    result: dict[str, Any] = ended["result"] or {}
    assert ended["state"] == "succeeded", ended
    return result


def _scheduled(stack: RunningStack) -> dict[str, Any]:
    """Wait for the first training that the schedule started, and return it with its result."""
    path = f"/v1/models/{MODEL}/trainings"
    with stack.client("scientist") as client:

        def first() -> dict[str, Any] | None:
            found = client.get(path).raise_for_status().json()["trainings"]
            return _ended(found[-1]) if found else None

        ended = wait_for("a training by the schedule", first, WAIT_SECONDS)
        path = f"{path}/{ended['trainingId']}"
        log = client.get(f"{path}/logs").raise_for_status().text
        assert (ended["state"], ended["submittedBy"]) == ("succeeded", ""), log
        assert f"{MODEL}: onnx" in log
        found: dict[str, Any] = client.get(path).raise_for_status().json()
    return found


def _ended(job: dict[str, Any]) -> dict[str, Any] | None:
    """Return a Job that has ended; a busy machine runs it better when it is seldom asked."""
    if job.get("state") in ("succeeded", "failed"):
        return job
    time.sleep(0.5)
    return None


def _has_ended(stack: RunningStack) -> bool:
    found = stack.model(MODEL).status.rollback
    assert found is None or found.state != RollbackState.FAILED, found
    return found is not None and found.state == RollbackState.ENDED


def _wait_live(stack: RunningStack, version: str) -> None:
    wait_for(f"version {version} to serve", lambda: stack.live(MODEL) == version, WAIT_SECONDS)
