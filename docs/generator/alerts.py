"""Alerts of the chart, from the template of its PrometheusRule.

Helm is not needed: a placeholder becomes the name of its value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.generator.markdown import table

RULES = Path(__file__).parents[2] / "charts/slipway/templates/observability/prometheusrule.yaml"
CONDITIONS = {
    'include "slipway.redis.url" $': "with Redis",
    "$.Values.backup.enabled": "`backup.enabled`",
    "$.Values.gateway.planes.apart": "`gateway.planes.apart`",
}
"""What a rule needs to be installed, in the words of the template and of the page."""


@dataclass(frozen=True)
class Alert:
    """One rule of the template."""

    name: str
    expression: str
    duration: str
    severity: str
    summary: str
    page: str
    """File name in docs/troubleshooting."""
    condition: str


def page() -> str:
    """Return the page of all alerts."""
    lines = [
        "# Alerts",
        "",
        "The chart installs these alerts where `observability.prometheusRule.enabled` is true.",
    ]
    lines += [
        (
            "A name in an expression, such as `errorRatio`, is a value below "
            "`observability.prometheusRule`."
        )
    ]
    lines += ["Capitals in a summary are a label or the value of the expression."]
    lines += ["Every alert selects the series of its own release.", ""]
    lines += table(
        ("alert", "severity", "after", "summary"),
        ((f"[{each.name}](../troubleshooting/{each.page})", *_row(each)) for each in alerts()),
    )
    lines += ["", "## Expressions"]
    for each in alerts():
        lines += [
            "",
            f"### {each.name}",
            *(["", f"Installed: {each.condition}."] if each.condition else []),
        ]
        lines += ["", "```promql", each.expression, "```"]
    return "\n".join(lines)


def _row(alert: Alert) -> tuple[str, str, str]:
    return alert.severity, alert.duration or "at once", alert.summary


def alerts(text: str | None = None) -> Iterator[Alert]:
    """Yield the rules of the template, in its order."""
    condition = ""
    before, *parts = re.split(
        r"^ +- alert: ", RULES.read_text() if text is None else text, flags=re.MULTILINE
    )
    for part in (before, *parts):
        if part is not before:
            yield _alert(part, condition)
        opened = re.findall(r"^ {8}\{\{- (?:if (.+?)|(end)) \}\}$", part, flags=re.MULTILINE)
        for begins, _ in opened:
            condition = CONDITIONS[begins] if begins else ""


def _alert(part: str, condition: str) -> Alert:
    name = part.split("\n", 1)[0].strip()
    expression = re.search(
        r"^ +expr: (?:\|\n(?P<block>(?: {12}.*\n)+)|(?P<line>.*)\n)", part, flags=re.MULTILINE
    )
    if expression is None:
        raise ValueError(f"the alert {name} has no expression")
    lines = (expression["block"] or expression["line"]).splitlines()
    return Alert(
        name,
        plain("\n".join(line.removeprefix(" " * 12).rstrip() for line in lines)),
        _one(r"^ +for: (\S+)$", part),
        _one(r"severity: (\w+)", part),
        plain(_one(r'^ +summary: "?(.*?)"?$', part)),
        _one(r"docs/troubleshooting/([\w-]+\.md)", part),
        condition,
    )


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text, flags=re.MULTILINE)
    return found[1] if found else ""


def plain(text: str) -> str:
    """Return an expression or a sentence without the language of Helm's templates."""
    text = re.sub(
        r'\{\{ "\{\{ \$(?:labels\.)?(\w+)(?: \| \w+)? \}\}" \}\}',
        lambda found: found[1].upper(),
        text,
    )  # labels
    text = re.sub(
        r"\{\{ \$(?:gateway|data|control|controller|jobs) \}\}(?:, )?", "", text
    )  # selectors of the release
    text = re.sub(r"\{\{ mul \$\.Values\.(\S+) (\d+) \}\}", r"\1 * \2", text)
    text = re.sub(r"\{\{ \$\.Release\.Name \}\}", "RELEASE", text)
    text = re.sub(r"\{\{ [$.]?\.?(\w+)(?: \| \w+)? \}\}", r"\1", text)
    text = re.sub(r"\{\s+\}", "", text)
    return re.sub(r"\{ (.*?) \}", r"{\1}", text)
