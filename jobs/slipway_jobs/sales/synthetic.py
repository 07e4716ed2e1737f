"""Synthetic sales: stores that close on Sundays, seasonal products, promotions, missing days.

For demonstrations and tests without real sales; a model that is trained on them is not valid for
trade. The sales of a day depend only on seed, store, product and day: a longer period extends a
shorter one.
"""

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from slipway_jobs.sales.table import Sale, Sales

SEED = 2024
SINCE = date(2024, 1, 1)
PLANNED = 14
"""Days after the last day with sales for which promotions are planned."""

_STORES = {
    "Aachen": (1.6, True),
    "Bremen": (1.0, False),
    "Coburg": (0.5, True),
    "Dresden": (1.2, False),
    "Erfurt": (0.8, True),
}
"""Sales level of each store, and whether it is closed on Sundays."""
_LATE_STORE = "Erfurt"
_LATE_PRODUCT = "tea"
_LATE = 400
"""Days from ``SINCE`` to the opening of a store and the launch of a product."""
# units per day, yearly amplitude, day of the year of the maximum, increase on Saturdays, price
_PRODUCTS = {
    "bread": (60.0, 0.05, 350, 0.3, 3.2),
    "coffee": (25.0, 0.10, 340, 0.2, 6.5),
    "ice cream": (20.0, 0.80, 200, 0.5, 4.0),
    "juice": (35.0, 0.25, 190, 0.2, 2.4),
    "lamp oil": (1.5, 0.60, 355, 0.1, 9.0),
    "soup": (18.0, 0.50, 20, 0.0, 2.9),
    "tea": (12.0, 0.40, 10, 0.1, 4.4),
    "umbrella": (0.8, 0.30, 310, 0.0, 15.0),
}
_PROMOTED = 0.06
"""Share of the weeks with a promotion, of each pair."""
_MISSING = 0.02
"""Share of the days without a record."""
_HOLIDAYS = ((1, 1), (5, 1), (10, 3), (12, 25), (12, 26))
"""Month and day; all stores are closed."""
_PRICE_CUT = 0.8


def synthetic_rows(until: date, seed: int = SEED, since: date = SINCE) -> Iterator[Sale]:
    """Yield the sales through the day ``until`` and the plans after it.

    ``line`` counts from 2, as in a file with a header.
    """
    days = np.arange(np.datetime64(SINCE), np.datetime64(until + timedelta(days=PLANNED + 1)))
    line = 1
    for pair, (store, product) in enumerate(
        (store, product) for store in _STORES for product in _PRODUCTS
    ):
        # Each pair has its own streams, sampled in the order of the days, so that more days do not
        # change earlier ones.
        noise, plan, gaps, drift = (
            np.random.default_rng([seed, pair, stream]) for stream in range(4)
        )
        promoted = np.repeat(plan.random(len(days) // 7 + 1) < _PROMOTED, 7)[: len(days)]
        expected = _expected(store, product, days, promoted) * np.exp(
            np.cumsum(drift.normal(0, 0.01, len(days)))
        )
        # A gamma-distributed rate makes the counts vary more than Poisson's, as real ones do.
        units = _counts(noise, expected)
        recorded = _open(store, product, days) & (gaps.random(len(days)) >= _MISSING)
        price = _PRODUCTS[product][4]
        for index in np.flatnonzero(recorded & (days >= np.datetime64(since))):
            line += 1
            day, cut = days[index].astype(date), bool(promoted[index])
            sold = float(units[index]) if day <= until else None
            yield Sale(
                line, day, store, product, sold, cut, round(price * (_PRICE_CUT if cut else 1), 2)
            )


def synthetic_sales(until: date, seed: int = SEED, since: date = SINCE) -> Sales:
    """Return the synthetic sales as a table."""
    return Sales.of(row.fact for row in synthetic_rows(until, seed, since))


def _expected(
    store: str, product: str, days: NDArray[np.datetime64], promoted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    level, swing, best, saturday, _ = _PRODUCTS[product]
    turn = 2 * np.pi * (_day_of_year(days) - best) / 365.25
    week = 1 + saturday * (_weekday(days) == 5) - 0.15 * (_weekday(days) < 2)
    uplift = 1.4 + 0.1 * list(_PRODUCTS).index(product)
    return np.asarray(
        level
        * _STORES[store][0]
        * (1 + swing * np.cos(turn))
        * week
        * np.where(promoted, uplift, 1)
    )


def _counts(random: np.random.Generator, expected: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the units of each day, sampled one by one: a sample's size depends on its rate."""
    return np.array([random.poisson(rate * random.gamma(20, 1 / 20)) for rate in expected])


def _open(store: str, product: str, days: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    holiday = np.zeros(len(days), dtype=bool)
    for month, day in _HOLIDAYS:
        holiday |= (days.astype("datetime64[M]").astype(int) % 12 + 1 == month) & (
            _day_of_month(days) == day
        )
    closed = holiday | ((_weekday(days) == 6) & _STORES[store][1])
    late = store == _LATE_STORE or product == _LATE_PRODUCT
    return np.asarray(~closed & (days >= np.datetime64(SINCE) + (_LATE if late else 0)))


def _weekday(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return the weekday of each day; 0 is Monday."""
    return np.asarray((days.astype(np.int64) + 3) % 7)


def _day_of_year(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return the day of the year of each day, from 0."""
    return np.asarray((days - days.astype("datetime64[Y]")).astype(np.int64))


def _day_of_month(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return np.asarray((days - days.astype("datetime64[M]")).astype(np.int64) + 1)
