"""Every block of commands in README and docs has a mark, and runs there."""

import re
from pathlib import Path

import pytest

from tests.documents import PAGES, ROOT, Block, blocks

BLOCKS = [pytest.param(block, id=block.place) for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_commands_is_marked_with_where_it_runs(block: Block) -> None:
    kind, _, where = block.mark.partition(": ")
    assert kind in ("run", "run by", "not run"), (
        f"{block.place} needs a mark on the line before it; see tests/documents.py"
    )
    if kind == "run":
        assert where in ("local", "kind")
    if kind == "run by":
        assert runs(ROOT / where, block), f"{where} does not run these commands"
    if kind == "not run":
        assert len(where.split()) >= 4, "give the reason"


def runs(file: Path, block: Block) -> bool:
    """Return True when a file names the page whose commands it runs.

    CI has the commands themselves.
    """
    text = file.read_text()
    targets = re.findall(r"\bmake ([a-z0-9-]+)", block.commands)
    made = bool(targets) and all(re.search(rf"make .*\b{target}\b", text) for target in targets)
    return made or str(block.page.relative_to(ROOT)) in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_in_recognized_blocks(page: Path) -> None:
    fences = re.findall(r"^\s*```(\S*)", page.read_text(), flags=re.MULTILINE)
    assert fences.count("sh") + fences.count("bash") + fences.count("console") + fences.count(
        "shell"
    ) == len(list(blocks(page)))


def test_a_line_with_a_prompt_is_in_no_block() -> None:
    prompts = [
        block.place
        for page in PAGES
        for block in blocks(page)
        if re.search(r"^\$ ", block.commands, re.MULTILINE)
    ]
    assert prompts == []
