"""Tests whether a window of inputs has the distribution of the training inputs.

Drift needs both a large and a significant change. Size: the population stability index with the
thresholds of credit scoring (Siddiqi, Credit Risk Scorecards, Wiley 2006: below 0.1 none, 0.1 to
0.25 moderate, from 0.25 major). Significance: Kolmogorov-Smirnov for numbers, and for codes the
distribution of the index itself (Yurdakul, Statistical Properties of Population Stability Index,
2018). A small window has a large index by chance; in a large window, an irrelevant difference is
significant.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import chi2, fisher_exact, kstwo
from slipway.packaging.reference import POINTS, Distribution, Kind, Reference
from slipway.training.dataset import Floats

Counts = NDArray[np.float64]

MODERATE, MAJOR = 0.1, 0.25
"""Thresholds of the index."""
MISSING_CHANGE = 0.1
"""A change of the missing rate that counts as large."""
ALPHA = 0.01
"""Probability of at least one false alarm in a report, over all its inputs together."""
BINS = 10


class ColumnDrift(BaseModel):
    """The finding for one input: window compared with reference."""

    model_config = ConfigDict(extra="forbid")

    name: str
    kind: Kind
    psi: float | None = Field(
        description="population stability index; None when the window has no value"
    )
    level: Literal["none", "moderate", "major"] = "none"
    p: float = Field(
        description=(
            "probability of such a difference by chance, adjusted for the number of tests (Holm)"
        )
    )
    missing_reference: float = Field(description="share of rows without a value")
    missing_window: float
    missing_p: float = Field(
        description="as p, for the change of the missing rate (Fisher's exact test)"
    )
    drifted: bool = False


def compare(reference: Reference, window: Floats) -> list[ColumnDrift]:
    """Compare ``window`` [rows, columns of the reference] FP32, NaN for missing values.

    Returns one finding per column, in order.
    """
    found = [
        _compare(known, window[:, position]) for position, known in enumerate(reference.columns)
    ]
    adjusted = holm([p for column in found for p in (column.p, column.missing_p)])
    for column, p, missing_p in zip(found, adjusted[::2], adjusted[1::2], strict=True):
        column.p, column.missing_p = p, missing_p
        column.drifted = (column.level == "major" and p < ALPHA) or (
            abs(column.missing_window - column.missing_reference) >= MISSING_CHANGE
            and missing_p < ALPHA
        )
    return found


def psi(reference: Counts, window: Counts) -> float:
    """Return the population stability index of counts [bins] in the same bins.

    It is the sum of (w - r) ln(w / r) over the shares w and r. Half a count is added to each bin,
    so that an empty bin does not make the index infinite.
    """
    r = (reference + 0.5) / (reference + 0.5).sum()
    w = (window + 0.5) / (window + 0.5).sum()
    return float(np.sum((w - r) * np.log(w / r)))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, Scand. J. Statist. 6, 1979)."""
    order = np.argsort(p)
    steps = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]


def _compare(known: Distribution, column: Floats) -> ColumnDrift:
    values = column[~np.isnan(column)].astype(np.float64)
    missing = len(column) - len(values)
    finding = ColumnDrift(
        name=known.name,
        kind=known.kind,
        psi=None,
        p=1.0,
        missing_reference=known.missing / max(known.rows + known.missing, 1),
        missing_window=missing / len(column),
        missing_p=_missing_p(known, missing, len(values)),
    )
    if len(values) and known.rows:
        reference, window = _counts(known, values)
        finding.psi = psi(reference, window)
        finding.level = (
            "major" if finding.psi >= MAJOR else "moderate" if finding.psi >= MODERATE else "none"
        )
        finding.p = (
            ks_p(known, values)
            if known.kind is Kind.NUMBERS
            else psi_p(finding.psi, reference, window)
        )
    return finding


def _counts(known: Distribution, values: NDArray[np.float64]) -> tuple[Counts, Counts]:
    """Return the counts of reference and window in the same bins.

    Codes have one bin each; numbers have the reference's deciles.
    """
    if known.kind is Kind.CODES:
        bins = np.union1d(known.values, values)
        places, count = np.searchsorted(bins, known.values), len(bins)
        window = np.bincount(np.searchsorted(bins, values), minlength=count)
    else:
        edges = _deciles(known)
        places, count = np.searchsorted(edges, known.values), len(edges) + 1
        window = np.bincount(np.searchsorted(edges, values), minlength=count)
    reference = np.bincount(places, weights=known.counts, minlength=count)
    return reference.astype(np.float64), window.astype(np.float64)


def _deciles(known: Distribution) -> NDArray[np.float64]:
    """Return the upper edges of all bins but the last.

    There are fewer than nine where one value spans several deciles. If the first edge is the
    smallest value, smaller values get their own bin; otherwise they would be counted as that value.
    """
    values, cumulative = np.asarray(known.values, dtype=np.float64), np.cumsum(known.counts)
    wanted = np.arange(1, BINS) / BINS * cumulative[-1]
    edges = np.unique(values[np.searchsorted(cumulative, wanted)])
    return (
        np.concatenate([[np.nextafter(values[0], -np.inf)], edges])
        if edges[0] == values[0]
        else edges
    )


def psi_p(index: float, reference: Counts, window: Counts) -> float:
    """Return the p-value of the index (Yurdakul 2018).

    Without a change, the index is distributed as (1/n + 1/m) times chi-squared with bins - 1
    degrees of freedom.
    """
    scale = 1 / reference.sum() + 1 / window.sum()
    return float(chi2.sf(index / scale, df=max(len(reference) - 1, 1)))


def ks_p(known: Distribution, values: NDArray[np.float64]) -> float:
    """Return the p-value of the two-sample Kolmogorov-Smirnov test.

    It uses the effective number of rows. With ties (whole numbers) it is conservative.
    """
    ordered, n, m = np.sort(values), known.rows, len(values)
    reference = np.cumsum(known.counts) / n
    distance = np.abs(np.searchsorted(ordered, known.values, side="right") / m - reference).max()
    if len(known.values) < POINTS:
        # The reference has every value, so its distribution is exact just below each of them too.
        before = np.concatenate([[0.0], reference[:-1]])
        distance = max(
            distance, np.abs(np.searchsorted(ordered, known.values, side="left") / m - before).max()
        )
    return float(kstwo.sf(distance, max(round(n * m / (n + m)), 1)))


def _missing_p(known: Distribution, missing: int, present: int) -> float:
    if not missing and not known.missing:
        return 1.0
    return float(fisher_exact(np.array([[known.missing, known.rows], [missing, present]])).pvalue)
