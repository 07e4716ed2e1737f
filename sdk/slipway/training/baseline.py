"""Baselines: predictions without a model, to which the scores of a model are compared."""

from collections.abc import Callable, Mapping, Sequence

from slipway.training.dataset import Table
from slipway.training.metric import Direction, Metric, Predictions, scores

Baseline = Callable[[Table, Table], Predictions]
"""``baseline(training rows, rows to predict)``: predictions without a model."""


def baseline_scores(
    chosen: Sequence[Metric], baselines: Mapping[str, Baseline], train: Table, test: Table
) -> dict[str, dict[str, float]]:
    """Return the scores of each baseline by its name."""
    return {
        name: scores(chosen, test.labels, baseline(train, test))
        for name, baseline in baselines.items()
    }


def strongest(
    chosen: Sequence[Metric], found: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Return the best score of each metric that any baseline has."""
    best = {Direction.MAX: max, Direction.MIN: min}
    return {m.name: best[m.direction](each[m.name] for each in found.values()) for m in chosen}
