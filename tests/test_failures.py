"""Pages of docs/troubleshooting: they quote texts of the programs, and every failure has a page."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs/troubleshooting").glob("[!R]*.md"))
INDEX = ROOT / "docs/troubleshooting/README.md"
ALERTS = ROOT / "charts/slipway/templates/observability/prometheusrule.yaml"
PACKAGES = ("contract", "cluster", "sdk", "jobs", "serving", "controller", "gateway", "examples/*")
OTHERS = ("charts/slipway/templates/**/*.*", "charts/slipway/files/*.sh", "manifests/bring-up")
GAP = "…"
"""Variable part of a text, in a page as in a source."""
OTHER_PROGRAMS = ("helm", "kserve", "mlflow", "postgresql")
"""Other programs, whose messages a page may quote in a separate block; these are not compared."""
REASONED = ("Readiness", "Diagnosis", "RegistryError", "ModelEvent", "degraded")
"""Calls of the controller with a reason and a message."""
NO_FAILURE = {"Creating", "ReplacingPods", "Serving", "SmokePrediction", "TrafficMoved"} | {
    "RollingBack", "RolledBack", "RollbackEnded", "RollbackRemoved",
}  # fmt: skip
"""Reasons of every rollout and rollback."""


def blocks(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield info string and lines of each fenced block."""
    for info, content in re.findall(
        r"^```(.*)\n([^`]*)^```$", page.read_text(), flags=re.MULTILINE
    ):
        yield info, content.splitlines()


def symptoms(page: Path) -> list[str]:
    return [line for info, lines in blocks(page) if info == "text symptom" for line in lines]


QUOTED = [
    pytest.param(line, id=f"{page.stem}: {line}") for page in PAGES for line in symptoms(page)
]


@cache
def source_texts() -> frozenset[str]:
    """Return every text in the Python sources, with a gap for each inserted value."""
    paths = [path for package in PACKAGES for path in ROOT.glob(f"{package}/slipway*/**/*.py")]
    paths += ROOT.glob("charts/slipway/files/*.py")
    texts = (_text(node) for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return frozenset(re.sub(f"{GAP}+", GAP, text) for text in texts)


def _text(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"%[-.\d]*[a-z]", GAP, text)  # of a log line
        case ast.Constant(value=bytes(content)):
            return content.decode("utf-8", "replace")
        case ast.JoinedStr(values=values):
            return "".join(str(v.value) if isinstance(v, ast.Constant) else GAP for v in values)
    return ""


def is_in_other_file(symptom: str) -> bool:
    """Return True when the parts are in this order on a line of a template or a script."""
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in symptom.split(GAP)))
    return any(pattern.search(line) for line in lines_elsewhere())


@cache
def lines_elsewhere() -> list[str]:
    paths = [path for pattern in OTHERS for path in ROOT.glob(pattern)]
    return [line for path in paths for line in path.read_text().splitlines()]


def is_in_sources(symptom: str) -> bool:
    # Another function may prefix a message with a name and a colon.
    forms = {symptom, symptom.removeprefix(f"{GAP}: ")}
    return any(form in source_texts() or is_in_other_file(form) for form in forms)


@pytest.mark.parametrize("symptom", QUOTED)
def test_a_quoted_symptom_is_a_text_of_a_program(symptom: str) -> None:
    assert is_in_sources(symptom)


@pytest.mark.slow
@pytest.mark.parametrize("symptom", QUOTED)
def test_a_symptom_with_an_additional_word_is_not_a_text_of_a_program(symptom: str) -> None:
    assert not is_in_sources(re.sub(r"(\w+)(\W*)$", r"zebra \1\2", symptom))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_symptom_command_and_remedy(page: Path) -> None:
    infos = [info for info, _ in blocks(page)]
    assert infos[0] == "text symptom"
    assert "sh" in infos
    assert set(infos) <= {
        "text symptom",
        "sh",
        *(f"text from {program}" for program in OTHER_PROGRAMS),
    }
    assert "| cause | remedy |" in page.read_text()


def test_every_page_is_in_the_index() -> None:
    assert sorted(re.findall(r"\]\(([a-z-]+\.md)\)", INDEX.read_text())) == [
        page.name for page in PAGES
    ]


def test_every_reason_of_the_controller_has_a_page() -> None:
    reasons = set(_reasons())
    assert {"DigestMismatch", "AliasNotFound", "CrashLoop", "ClusterRefused", "Repaired"} <= reasons
    quoted = {line for page in PAGES for line in symptoms(page)}
    assert reasons - NO_FAILURE - quoted == set()


def _reasons() -> Iterator[str]:
    """Yield CamelCase reasons of assessments, diagnoses, errors and warnings of the controller."""
    for path in ROOT.glob("controller/slipway_controller/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in REASONED:
                yield from _words(ast.Tuple(elts=node.args))


def _words(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if (
            isinstance(each, ast.Constant)
            and isinstance(each.value, str)
            and re.fullmatch(r"([A-Z][a-z]+){2,}|Repaired", each.value)
        ):
            yield each.value


def test_every_alert_names_the_page_that_quotes_it() -> None:
    alerts = re.findall(
        r"alert: (\w+).*?description: .*?(docs/troubleshooting/[\w-]+\.md)",
        ALERTS.read_text(),
        flags=re.DOTALL,
    )
    assert len(alerts) == ALERTS.read_text().count("- alert:")
    assert [name for name, page in alerts if name not in (ROOT / page).read_text()] == []


@pytest.mark.parametrize(
    "page",
    [*sorted((ROOT / "docs").glob("**/*.md")), ROOT / "README.md"],
    ids=lambda page: page.name,
)
def test_links_point_to_files(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text())  # a regular expression may look like a link
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
