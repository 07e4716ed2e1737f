"""The model card: use, limits, data, scores, inputs and outputs of a version.

The headings are those of Mitchell et al., Model Cards for Model Reporting (2019), as far as they
apply.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from slipway.packaging.card import columns_table
from slipway.training.dataset import Dataset
from slipway.training.fitting import Scores
from slipway.training.split import Split
from slipway.training.task import Task
from slipway_contract.registry import ArtifactFormat

from slipway_jobs.training.confusion import ALL, Confusion

_FORMS = {
    ArtifactFormat.ONNX: "ONNX",
    ArtifactFormat.RULES: "data of rules whose code is in the server",
    ArtifactFormat.SKOPS: "skops",
}


@dataclass(frozen=True, kw_only=True)
class Results(Scores):
    """The scores of a training run with what the card shows about the held-out rows."""

    confusions: Mapping[str, Confusion]
    """Confusion matrices of the held-out rows: of all, and of each slice."""
    calibration_error: float | None
    """Expected calibration error on the held-out rows; only of binary classifiers."""
    parity: float
    """Largest difference of a prediction between graph and estimator on the held-out rows."""


def model_card(
    task: Task,
    dataset: Dataset,
    digest: str,
    split: Split,
    results: Results,
    code: str,
    form: ArtifactFormat,
) -> str:
    """Return the model card as Markdown."""
    lines = [
        f"# {task.title}",
        *(
            ["", "**Trained on SYNTHETIC data: the scores below do not apply to real data.**"]
            if dataset.synthetic
            else []
        ),
        *("", task.use, "", "## Limits", *(f"- {limit}" for limit in task.limits)),
        *(
            "",
            "## Data",
            f"- {dataset.name}: {dataset.title}",
            f"- Source: {dataset.source}",
            f"- Licence: {dataset.licence}",
        ),
        *(f"- Citation: {dataset.citation}", f"- Digest of the table: {digest}"),
        (
            f"- Split: {split.rule}; {len(split.train)} rows for training, {len(split.test)} held "
            "out and scored once."
        ),
        *(
            "",
            "## Model",
            (
                f"- {results.chosen}, chosen by cross-validated {task.selection.name} on the "
                "training rows alone"
            ),
        ),
        (
            f"- Served as {_FORMS[form]}; on the held-out rows its predictions equal the "
            f"estimator's within {results.parity:.1e}."
        ),
        *("", "## Scores", *_scores(task, results)),
        *_calibration(results.calibration_error),
        *_classes(results.confusions),
        *("", "## Inputs", *columns_table("input", task.signature.inputs)),
        *(
            "",
            "## Outputs",
            *columns_table("output", task.signature.outputs),
            "",
            f"Code: {code}",
            "",
        ),
    ]
    return "\n".join(lines)


def _scores(task: Task, results: Results) -> list[str]:
    named = list(results.baselines)
    lines = [
        f"| metric | better | held out | {' | '.join(named)} | cross-validation | meaning |",
        "|---" * (5 + len(named)) + "|",
    ]
    for metric in task.metrics:
        name = metric.name
        folds = f"{results.cv_mean[name]:.3f} ± {results.cv_spread[name]:.3f}"
        better = "larger" if metric.direction == "max" else "smaller"
        others = " | ".join(f"{results.baselines[each][name]:.3f}" for each in named)
        lines.append(
            f"| {name} | {better} | {results.test[name]:.3f} | {others} | {folds} | "
            f"{metric.meaning} |"
        )
    return [*lines, "", f"Baselines, which use few or no inputs of the row: {', '.join(named)}."]


def _calibration(error: float | None) -> list[str]:
    if error is None:
        return []
    return ["", f"Expected calibration error (ten groups of held-out rows): {error:.3f}."]


def _classes(found: Mapping[str, Confusion]) -> list[str]:
    """Return tables of the recall by slice and of the confusion matrix."""
    if not found:
        return []
    classes = found[ALL].classes
    lines = [
        "",
        "## Classes",
        "Recall (share of a class's held-out rows predicted correctly) and number of rows:",
        "",
    ]
    lines += [f"| rows | {' | '.join(classes)} |", "|---" * (len(classes) + 1) + "|"]
    for group, confusion in found.items():
        rows = confusion.counts.sum(axis=1)
        cells = [
            f"{confusion.recall[name]:.2f} of {rows[k]}" if rows[k] else "none"
            for k, name in enumerate(classes)
        ]
        lines.append(f"| {group} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| true class | {' | '.join(f'predicted {name}' for name in classes)} |",
        "|---" * (len(classes) + 1) + "|",
    ]
    return lines + [
        f"| {name} | {' | '.join(map(str, row))} |"
        for name, row in zip(classes, found[ALL].counts.tolist(), strict=True)
    ]
