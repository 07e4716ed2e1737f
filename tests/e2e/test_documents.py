"""The commands of the docs on the cluster of ``make kind``."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.documents import PAGES, ROOT, Block, blocks, run, workplace
from tests.e2e.conftest import NAMESPACE, KindStack, objects
from tests.support.waiting import SECONDS

pytestmark = pytest.mark.timeout(900)

KIND = [page for page in PAGES if any(block.mark == "run: kind" for block in blocks(page))]
FAILURES = [page for page in KIND if page.parent.name == "troubleshooting"]
WALKS = [page for page in KIND if page not in FAILURES]
DIAGNOSES = [
    pytest.param(block, line, id=f"{block.page.stem}: {line}")
    for page in FAILURES
    for block in blocks(page)
    for line in re.sub(
        r"&\n(.+)", r"& until \1; do sleep 1; done", block.commands
    ).splitlines()  # a port that is forwarded
]
NOT_HERE = re.compile(
    r"previous terminated container|jobs?(\.batch)? \S+ not found|No resources found"
)
"""Accepted errors of commands that look for traces of a failure."""


@pytest.fixture(scope="module")
def environment(stack: KindStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:  # noqa: ARG001 - sets KUBECONFIG
    """Return the environment of a shell after the quickstart."""
    config = tmp_path_factory.mktemp("shell") / "kubeconfig"
    config.write_bytes(Path(os.environ["KUBECONFIG"]).read_bytes())
    known = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    context = ["kubectl", "config", "set-context", "--current", "--namespace", NAMESPACE]
    subprocess.run(
        context, env={**known, "KUBECONFIG": str(config)}, check=True, capture_output=True
    )
    return {**known, "KUBECONFIG": str(config)}


@pytest.mark.parametrize("page", WALKS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(
    environment: dict[str, str], page: Path, tmp_path: Path
) -> None:
    # The tokens of `make kind` are valid for 15 minutes.
    subprocess.run(["make", "token"], cwd=ROOT, env=environment, check=True, timeout=SECONDS)
    folder = workplace(tmp_path / "checkout", (ROOT / ".slipway").resolve())
    run(page, "run: kind", folder, environment)


@pytest.mark.parametrize(("block", "line"), DIAGNOSES)
def test_a_command_of_a_failure_page_is_valid(
    stack: KindStack, environment: dict[str, str], block: Block, line: str, tmp_path: Path
) -> None:
    job = objects("jobs", "app.kubernetes.io/component=training")[0]["metadata"]["name"]
    known = {
        r"heart-3\b": f"heart-{stack.live('heart')}",
        r"\bby-hand\b": "heart",
        r"\bJOB\b": job,
        r"\bREQUEST_ID\b": "0" * 32,
    }
    command = line
    for word, value in known.items():
        command = re.sub(word, value, command)
    folder = workplace(tmp_path / "checkout", (ROOT / ".slipway").resolve())
    # grep finds nothing without a failure, and a forwarded port is closed at the end.
    script = f"source .slipway/env\n{command}\nstatus=$?\nkill $(jobs -p) 2>/dev/null\nexit $status"
    shell = ["bash", "-c", script]
    done = subprocess.run(
        shell,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    accepted = (
        done.returncode == 0
        or NOT_HERE.search(done.stderr)
        or ("| grep" in line and not done.stderr)
    )
    assert accepted, f"{block.place}: {command}\n{done.stdout}{done.stderr}"
