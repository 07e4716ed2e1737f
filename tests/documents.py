"""The commands of README and docs: each block is marked with where it runs, and runs there as it is
written.

A mark is a comment on the line before the block:

- ``<!-- run: local -->``: against the local stack (tests/local/test_documents.py)
- ``<!-- run: kind -->``: against the cluster of ``make kind`` (tests/e2e/test_documents.py)
- ``<!-- run by: FILE -->``: FILE runs the commands of this page in its own order
- ``<!-- not run: REASON -->``: needs what no test has, such as a registry of one's own

Words in capitals stand for what earlier commands of the page have printed: ``REQUEST_ID`` for the
last ``requestId``.
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
"""What a page writes in capitals, and the field of an earlier answer that it stands for."""

PROLOGUE = r"""
set -euo pipefail
# Another gateway finds an event when it is shipped, a moment after the answer: a reader takes that
# moment.
curl() { command curl --fail-with-body --show-error --retry 4 --retry-all-errors "$@"; }
last() {
  local found
  found=$(grep -oE "\"$1\": ?\"[^\"]+\"" "$TRANSCRIPT" | tail -n 1 | sed -E 's/.*: ?"(.*)"/\1/')
  [ -n "$found" ] || { echo "no command before this one has printed a field $1" >&2; return 1; }
  printf %s "$found"
}
"""


@dataclass(frozen=True)
class Block:
    """Commands between two fences."""

    page: Path
    line: int
    """Of the opening fence, from 1."""
    mark: str
    """What the comment before it contains; empty without one."""
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
    """Run the blocks of a page with this mark, in one shell, in ``folder``; fails with what the
    last command printed.

    ``known`` has values for words in capitals that no command of the page prints.
    """
    script, transcript = folder / f"{page.stem}.sh", folder / f"{page.stem}.log"
    transcript.write_text("")
    lines = [PROLOGUE]
    for block in blocks(page):
        if block.mark == mark:
            commands = block.commands
            for word, value in (known or {}).items():
                commands = re.sub(rf"\b{word}\b", value, commands)
            lines.append(f"echo; echo '· {block.place}'\n{filled(commands)}")
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
    """Replace words in capitals by a call that finds what they stand for."""
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
    """Make a folder that looks like a checkout with ``state`` as its ``.slipway``; files that
    commands write stay in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for each in ROOT.iterdir():
        if each.name not in (".git", ".slipway"):
            (folder / each.name).symlink_to(each)
    (folder / ".slipway").symlink_to(state)
    return folder
