"""docs/reference/faults.md: every class of faults has tests, and these exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/reference/faults.md"
REQUIRED = (
    "authentication bypass", "path traversal", "code in model files", "decompression bombs", (
        "server-side request "
        "forgery"
    ),
    "token confusion", "regular expressions", "exposed control plane",
)  # fmt: skip
"""Classes of published vulnerabilities of model servers and registries."""


def rows() -> Iterator[tuple[str, list[str]]]:
    """Yield each class with the tests of its row."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and cells[0] not in ("class", "---"):
            yield cells[0].strip("| "), re.findall(r"`(tests/[^`]+)`", cells[2])


ROWS = list(rows())


@cache
def functions_of(file: str) -> set[str]:
    """Return the names of the functions of a test file."""
    tree = ast.parse((ROOT / file).read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_the_page_has_the_classes_of_published_vulnerabilities() -> None:
    names = " ".join(name for name, _ in ROWS)
    assert [name for name in REQUIRED if name not in names] == []


@pytest.mark.parametrize(("name", "tests"), ROWS, ids=[name for name, _ in ROWS])
def test_a_class_names_tests_that_exist(name: str, tests: list[str]) -> None:
    assert tests, f"{name} has no test"
    missing = [
        each
        for each in tests
        if each.partition("::")[2] not in functions_of(each.partition("::")[0])
    ]
    assert missing == []
