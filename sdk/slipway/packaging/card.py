"""The model card of a version that a user logs: data, scores, inputs and outputs.

The headings are those of Mitchell et al., Model Cards for Model Reporting (2019), as far as they
apply.
"""

from collections.abc import Mapping, Sequence

from slipway_contract.signature import Column

from slipway.packaging.model import PackagedModel
from slipway.training.metric import Metric


def card(
    name: str,
    use: str | None,
    model: PackagedModel,
    data: Sequence[str],
    scores: Mapping[Metric, float],
    code: str,
) -> str:
    """Return the model card as Markdown; ``data`` are sentences on the rows that were given."""
    parity = model.parity.sentence() if model.parity else "not verified"
    lines = [
        f"# {name}",
        *("", use or "The intended use is not recorded."),
        *("", "## Data", *(f"- {sentence}" for sentence in data)),
        *("", "## Model", f"- {model.origin}", f"- Parity: {parity}."),
        *("", "## Scores", *_scores(scores)),
        *("", "## Inputs", *columns_table("input", model.signature.inputs)),
        *("", "## Outputs", *columns_table("output", model.signature.outputs)),
        *("", f"Code: {code}", ""),
    ]
    return "\n".join(lines)


def _scores(scores: Mapping[Metric, float]) -> list[str]:
    if not scores:
        return ["No scores: no evaluation rows were given."]
    lines = ["| metric | better | evaluation rows | meaning |", "|---" * 4 + "|"]
    for metric, value in scores.items():
        better = "larger" if metric.direction == "max" else "smaller"
        lines.append(f"| {metric.name} | {better} | {value:.4g} | {metric.meaning} |")
    return lines


def columns_table(kind: str, columns: Sequence[Column]) -> list[str]:
    """Return the columns as a table of a model card; ``kind`` is input or output."""
    lines = [f"| {kind} | meaning | unit | allowed | may be missing |", "|---|---|---|---|---|"]
    for column in columns:
        missing = "yes" if column.missing else "no"
        lines.append(
            f"| {column.name} | {column.description} | {column.unit or ''} | "
            f"{_allowed(column)} | {missing} |"
        )
    return lines


def _allowed(column: Column) -> str:
    if column.codes:
        return ", ".join(f"{code} {meaning}" for code, meaning in column.codes.items())
    if column.categories:
        return ", ".join(column.categories)
    if column.minimum is not None and column.maximum is not None:
        return f"{column.minimum:g} to {column.maximum:g}"
    return f"{column.max_length} characters" if column.max_length else ""
