"""Comparison of two versions on the same rows, with the uncertainty of the difference."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slipway.training.metric import Direction, Labels, Metric, Predictions

CONFIDENCE = 0.95
RESAMPLES = 500
SCORED_ROWS = 10_000_000
"""Most rows that one comparison scores; a large table has fewer resamples, at least FEWEST."""
FEWEST = 200
MOST_ROWS = 100_000
MIN_GROUPS = 10
"""Fewest independent groups of rows that give an interval; with fewer it is unbounded."""


class Decision(StrEnum):
    """The three results of a comparison."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "not distinguishable"


@dataclass(frozen=True)
class Comparison:
    """The scores of a candidate and its opponent, and the interval of the gain.

    ``low`` and ``high`` bound the gain with 95 % confidence.
    """

    metric: Metric
    direction: Direction
    candidate: float
    opponent: float
    low: float
    high: float
    groups: int
    """Number of independent groups of rows."""

    @property
    def gain(self) -> float:
        return self.direction.gain(self.candidate, self.opponent)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as JSON; a bound that is unknown is null."""
        bounds = {"low": self.low, "high": self.high}
        return {
            "metric": self.metric.name,
            "direction": self.direction,
            "candidate": self.candidate,
            "opponent": self.opponent,
            "gain": self.gain,
            **{name: bound if np.isfinite(bound) else None for name, bound in bounds.items()},
        }

    def decision(self, min_gain: float) -> Decision:
        """Return whether the gain is above ``min_gain``.

        A negative ``min_gain`` accepts a candidate that is at most that much worse.
        """
        if self.low > min_gain:
            return Decision.BETTER
        return Decision.WORSE if self.high < min_gain else Decision.UNDECIDED


def compare_predictions(
    metric: Metric,
    direction: Direction,
    truth: Labels,
    groups: NDArray[Any],
    candidate: Predictions,
    opponent: Predictions,
    chosen_of: int = 1,
) -> Comparison:
    """Compare two predictions of the same rows with ``truth`` [rows].

    The interval is that of the paired percentile bootstrap (Efron and Tibshirani 1993, chapter 13):
    both predictions are scored on the same resamples. Rows of one of the ``groups`` [rows] depend
    on each other, so whole groups are drawn. The resamples are the same in each call. The
    best of ``chosen_of`` versions may be a lucky one, so its interval holds for all of them
    (Bonferroni), with about ten resamples beyond each bound; a large table has fewer.
    """
    tail = (1 - CONFIDENCE) / 2 / chosen_of
    gains = [
        direction.gain(metric.score(truth[rows], candidate[rows]),
                       metric.score(truth[rows], opponent[rows]))
        for rows in _resamples(groups, round(10 / tail))
        if not metric.ranks or np.ptp(truth[rows])
    ]  # fmt: skip
    low, high = (
        np.quantile(gains, (tail, 1 - tail)) if len(gains) >= FEWEST // 2 else (-np.inf, np.inf)
    )
    return Comparison(
        metric,
        direction,
        metric.score(truth, candidate),
        metric.score(truth, opponent),
        float(low),
        float(high),
        len(np.unique(groups)),
    )


def _resamples(groups: NDArray[Any], wanted: int = RESAMPLES) -> Iterator[NDArray[np.intp]]:
    """Yield the row numbers of each resample; nothing for fewer than MIN_GROUPS groups.

    Of more than MOST_ROWS rows, a resample has about that many: then the interval is wider than
    necessary.
    """
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    if len(starts) < MIN_GROUPS:
        return
    drawn_groups = max(MIN_GROUPS, min(len(starts), len(starts) * MOST_ROWS // len(groups)))
    random = np.random.default_rng(0)
    for _ in range(max(FEWEST, min(max(RESAMPLES, wanted), SCORED_ROWS // len(groups)))):
        drawn = random.integers(len(starts), size=drawn_groups)
        ends = np.cumsum(sizes[drawn])
        first = np.repeat(starts[drawn] - (ends - sizes[drawn]), sizes[drawn])
        yield order[first + np.arange(ends[-1])]
