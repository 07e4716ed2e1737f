"""Execution of the commands in README and docs; each block has a mark that names its place.

A mark is a comment on the line before the block:

- ``<!-- run: local -->``: on the local stack (tests/local/test_documents.py)
- ``<!-- run: kind -->``: on the cluster of ``make kind`` (tests/e2e/test_documents.py)
- ``<!-- run by: FILE -->``: FILE runs the commands of this page in its own order
- ``<!-- not run: REASON -->``: needs resources that no test has, such as a registry

Words in capitals stand for output of earlier commands of the page: ``REQUEST_ID`` for the last
``requestId``.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "charts/slipway/README.md",
]

PLACEHOLDERS = {
    "REQUEST_ID": "requestId",
    "TRAINING_ID": "trainingId",
    "BATCH_ID": "batchId",
    "TASK_ID": "taskId",
    "VERSION": "version",
}
"""Placeholders of a page, and the field of an earlier response that replaces each."""

PROLOGUE = r"""
set -euo pipefail
# Another gateway finds an event only after it was shipped, shortly after the response:
# retry.
curl() { command curl --fail-with-body --show-error --retry 4 --retry-all-errors "$@"; }
last() {
  local found
  found=$(grep -oE "\"$1\": ?\"[^\"]+\"" "$TRANSCRIPT" | tail -n 1 | sed -E 's/.*: ?"(.*)"/\1/')
  [ -n "$found" ] || { echo "no command before this one has printed a field $1" >&2; return 1; }
  printf %s "$found"
}
"""

RENEW = '[ -z "${SLIPWAY_TOKEN:-}" ] || source .slipway/env'
"""Tokens live 15 minutes and `make up` renews them in the file; a page may take longer."""


@dataclass(frozen=True)
class Block:
    """Commands between two fences."""

    page: Path
    line: int
    """Line of the opening fence, from 1."""
    mark: str
    """Content of the comment before it; empty without one."""
    commands: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of commands on a page, in order."""
    mark, opened, commands = "", 0, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if opened:
            if line.strip() == "```":
                yield Block(page, opened, mark, "\n".join(commands) + "\n")
                mark, opened, commands = "", 0, []
            else:
                commands.append(line)
        elif re.fullmatch(r"```(sh|bash|shell|console)\b.*", line.strip()):
            opened = number
        elif found := re.fullmatch(r"<!-- ((?:run|run by|not run): .+) -->", line.strip()):
            mark = found[1]
        elif line.strip():
            mark = ""


def run(
    page: Path,
    mark: str,
    folder: Path,
    environment: Mapping[str, str],
    known: Mapping[str, str] | None = None,
) -> None:
    """Run the blocks of a page with this mark in one shell in ``folder``.

    Fails with the output of the last command. ``known`` has values for placeholders that no command
    of the page prints.
    """
    script, transcript = folder / f"{page.stem}.sh", folder / f"{page.stem}.log"
    transcript.write_text("")
    lines = [PROLOGUE]
    for block in blocks(page):
        if block.mark == mark:
            commands = block.commands
            for word, value in (known or {}).items():
                commands = re.sub(rf"\b{word}\b", value, commands)
            lines.append(f"echo; echo '· {block.place}'\n{RENEW}\n{filled(commands)}")
    assert len(lines) > 1, f"{page} has no block with the mark {mark!r}"
    script.write_text("\n".join(lines))
    with transcript.open("wb") as output:
        done = subprocess.run(
            ["bash", script],
            cwd=folder,
            env={**environment, "TRANSCRIPT": str(transcript)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=1700,
            check=False,
        )
    assert done.returncode == 0, transcript.read_text()[-4000:]


def filled(commands: str) -> str:
    """Replace placeholders by a call that returns their values."""
    for word, name in PLACEHOLDERS.items():
        while found := re.search(rf"\b{word}\b", commands):
            quoted = commands[: found.start()].count("'") % 2
            call = f"$(last {name})"
            commands = (
                commands[: found.start()]
                + (f"'\"{call}\"'" if quoted else call)
                + commands[found.end() :]
            )
    return commands


def workplace(folder: Path, state: Path) -> Path:
    """Create a folder like a checkout with ``state`` as its ``.slipway``; new files stay in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in ROOT.iterdir():
        if each.name not in (".git", ".slipway"):
            (folder / each.name).symlink_to(each)
    (folder / ".slipway").symlink_to(state)
    return folder
