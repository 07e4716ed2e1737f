"""The generated pages of docs/reference are complete and up to date.

The expected content is read from the sources, not from the functions that write the pages.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.generator.pages import PAGES, REFERENCE, pages
from tests.gateway.access import RULES

ROOT = Path(__file__).parent.parent
PROGRAMS = ("gateway", "controller", "jobs", "serving", "identity", "local")
CHART = ROOT / "charts/slipway"
KINDS = {"Counter", "Gauge", "Histogram", "Summary", "watch"}
"""Constructors of metrics."""


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    return pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(generated: dict[Path, str], name: str) -> None:
    path = REFERENCE / name
    assert path.read_text() == generated[path], "run `make docs` and commit the page"


def cells(name: str) -> set[str]:
    """Return the code in the first column of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", (REFERENCE / name).read_text(), flags=re.MULTILINE))


def sources(program: str) -> Iterator[ast.Module]:
    for path in sorted((ROOT / program).glob("slipway_*/**/*.py")):
        yield ast.parse(path.read_text())


# --- settings


def declared(program: str) -> Iterator[tuple[str, str]]:
    """Yield variable and docstring of each field of a program's settings."""
    classes = {
        node.name: node
        for tree in sources(program)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    for each in classes.values():
        if "BaseSettings" in ancestors(each, classes):
            yield from fields(each, prefix(each, classes))


def ancestors(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> set[str]:
    names = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return names | {
        found for name in names & classes.keys() for found in ancestors(classes[name], classes)
    }


def prefix(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> str:
    text = ast.unparse(node)
    if found := re.search(r"env_prefix='(\w+)'", text):
        return found[1]
    inherited = [
        base.id for base in node.bases if isinstance(base, ast.Name) and base.id in classes
    ]
    return prefix(classes[inherited[0]], classes) if inherited else ""


def fields(node: ast.ClassDef, start: str) -> Iterator[tuple[str, str]]:
    for each, following in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            alias = re.search(r"validation_alias='(\w+)'", ast.unparse(each))
            documented = isinstance(following, ast.Expr) and isinstance(
                following.value, ast.Constant
            )
            yield (
                alias[1] if alias else f"{start}{each.target.id}".upper(),
                ast.unparse(following) if documented else "",
            )


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_setting_is_on_the_page(program: str) -> None:
    found = dict(declared(program))
    assert found
    assert found.keys() - cells("settings.md") == set()


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_setting_has_a_meaning(program: str) -> None:
    meanings: dict[str, str] = {}
    for variable, meaning in declared(program):
        meanings[variable] = (
            meanings.get(variable, "") + meaning
        )  # a subclass may change a default alone
    assert [variable for variable, meaning in meanings.items() if not meaning] == []


# --- routes, commands, fields


def test_every_route_is_on_the_page_with_its_permission() -> None:
    page = (REFERENCE / "http-api.md").read_text()
    sections = dict(re.findall(r"^### ([A-Z]+ /\S*)\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    assert sections.keys() == {f"{rule.method} {rule.path}" for rule in RULES}
    for rule in RULES:
        text = sections[f"{rule.method} {rule.path}"]
        assert f"Permission `{rule.name}`" in text
        assert all(f"`{role}`" in text for role in rule.roles or ())


def test_every_link_to_a_schema_leads_to_one() -> None:
    page = (REFERENCE / "http-api.md").read_text()
    headings = {title.lower() for title in re.findall(r"^### (\w+)$", page, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) - headings == set()


def test_every_command_is_on_the_page_with_its_arguments() -> None:
    """Compare with the keys of COMMANDS and the calls of add_argument."""
    (commands,) = [
        node.value
        for node in ast.walk(ast.parse((ROOT / "jobs/slipway_jobs/__main__.py").read_text()))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMANDS"
    ]
    assert isinstance(commands, ast.Dict)
    page = (REFERENCE / "job-commands.md").read_text()
    assert re.findall(r"^## (\w+)$", page, flags=re.MULTILINE) == [
        ast.literal_eval(each) for each in commands.keys if each
    ]
    source = (ROOT / "jobs/slipway_jobs/command.py").read_text()
    arguments = set(re.findall(r'add_argument\(\s*"([\w-]+)"', source)) | set(
        re.findall(r'^        \("(\w+)", "', source, re.MULTILINE)
    )
    assert len(arguments) > 20
    assert [
        each
        for each in sorted(arguments)
        if not re.search(rf"^\| `(--)?{each}\b", page, re.MULTILINE)
    ] == []


def paths(schema: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, each in schema.get("properties", {}).items():
        yield f"{before}{name}"
        yield from paths(each, f"{before}{name}.")
        yield from paths(each.get("items", {}), f"{before}{name}[].")


def test_every_field_of_the_installed_definition_is_on_the_page() -> None:
    definition = yaml.safe_load((CHART / "files/models.crd.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = set(paths(schema)) - {"spec", "status"}
    assert "status.conditions[].reason" in found
    assert found - cells("model-resource.md") == set()


# --- metrics, alerts, values


def metrics(program: str) -> Iterator[str]:
    for tree in sources(program):
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and re.split(r"\W", ast.unparse(node.func))[-1] in KINDS
                and node.args
            ):
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


@pytest.mark.slow
def test_every_metric_is_on_the_page() -> None:
    known = {name.removesuffix("_total") for name in cells("metrics.md")}
    found = {name.removesuffix("_total") for program in PROGRAMS for name in metrics(program)}
    assert {"slipway_predictions", "slipway_redis_up", "slipway_controller_leading"} <= found
    assert found == known


def test_every_alert_is_on_the_page_and_uses_metrics_that_exist() -> None:
    page = (REFERENCE / "alerts.md").read_text()
    rules = (CHART / "templates/observability/prometheusrule.yaml").read_text()
    assert re.findall(r"^### (\w+)$", page, flags=re.MULTILINE) == re.findall(
        r"- alert: (\w+)", rules
    )
    used = {name.removesuffix("_bucket") for name in re.findall(r"\b(slipway_\w+)", page)}
    assert used - cells("metrics.md") == set()


def test_an_alert_contains_no_template_syntax() -> None:
    assert re.findall(r"\{\{|\}\}|\$", (REFERENCE / "alerts.md").read_text()) == []


def test_every_value_of_the_chart_is_on_the_page() -> None:
    page = (REFERENCE / "chart-values.md").read_text()
    known = cells("chart-values.md") | set(re.findall(r"^### (\w+)$", page, flags=re.MULTILINE))
    # A map without keys or with arbitrary keys is one value: the page may document a parent path,
    # but no other one.
    missing = [
        path
        for path in leaves(yaml.safe_load((CHART / "values.yaml").read_text()))
        if not known & above(path)
    ]
    assert missing == []


def leaves(value: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, (*before, name))
    else:
        yield before


def above(path: tuple[str, ...]) -> set[str]:
    return {".".join(path[: count + 1]) for count in range(1 if len(path) > 1 else 0, len(path))}


# --- the site


def test_every_page_is_in_the_navigation_once() -> None:
    """Compare the navigation with the files; the strict build of `make docs` checks links."""
    docs = ROOT / "docs"
    named = re.findall(
        r"^ .*?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE
    )
    assert sorted(named) == sorted(str(path.relative_to(docs)) for path in docs.rglob("*.md"))
