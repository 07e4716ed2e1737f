"""Features of sales forecasts, with one definition for training and serving.

A forecast for ``day`` is made on the morning of ``made``. Its features use facts of days before
``made``, and of ``day`` itself only what is known in advance: the calendar, and whether a promotion
is planned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from slipway.errors import Leakage
from slipway.features import FeatureColumn, FeatureKey, FeatureSet, KeyType
from slipway.training.dataset import Floats
from slipway_contract.signature import Column, Lookup
from slipway_contract.v2 import Datatype

from slipway_jobs.sales.table import Sales

NAME = "sales"
"""Name of the feature set in the warehouse and in the signatures that look it up."""
VERSION = 1
"""Version of the features, incremented with each change of a meaning.

A model needs the version that it was trained on.
"""
WINDOW = 28
"""Days before the morning that the features cover."""
REACH = 14
"""Days, from the morning's own, for which forecasts are made."""

MAX_AGE_SECONDS = 52 * 3600
"""Age of the newest day from which a load is overdue: it runs each night."""

Days = NDArray[np.datetime64]
Names = NDArray[np.str_]

LOOKUP = Lookup(features=f"{NAME}-{VERSION}", keys=("store", "product"), date="date")


def _column(
    name: str, description: str, unit: str | None = None, *, missing: bool = True
) -> Column:
    return Column(
        name=name, datatype=Datatype.FP32, description=description, unit=unit,
        minimum=-1 if "year" in name else 0,
        missing=missing, lookup=LOOKUP,
    )  # fmt: skip


COLUMNS = (
    _column("last", "units of the pair on its last known day"),
    _column("last_age", "days from that day to the forecast's morning", "d"),
    _column("mean_7", "mean units of the pair in the 7 days before the morning"),
    _column("mean_28", "mean units of the pair in the 28 days before the morning"),
    _column(
        "weekday_mean",
        "mean units of the pair on the same weekday in the 28 days before the morning",
    ),
    _column(
        "promoted_28", "share of the known ones of those 28 days on which the pair was promoted"
    ),
    _column(
        "known_28",
        "number of known days of the pair among those 28; 0: an unknown pair",
        "d",
        missing=False,
    ),
    _column(
        "product_mean",
        "mean units per store and day of the product in those 28 days, over all stores",
    ),
    _column(
        "store_mean",
        "mean units per product and day of the store in those 28 days, over all products",
    ),
    _column("overall_mean", "mean units per store, product and day in those 28 days"),
    _column("horizon", "days from the forecast's morning to the requested day", "d", missing=False),
    _column("weekday", "of the requested day; 0 is Monday", missing=False),
    _column("year_sin", "sine of the requested day in the year", missing=False),
    _column("year_cos", "cosine of the requested day in the year", missing=False),
    _column("promotion", "1: a promotion is planned for the requested day"),
)
"""Inputs of the model, in this order."""


def feature_set(newest: date, time_zone: str, synthetic: bool) -> FeatureSet:
    """Return the declaration of the features of the days after ``newest``."""
    return FeatureSet(
        name=LOOKUP.features,
        description="sales of a product in a store before a morning, for forecasts of later days",
        owner="slipway-sales",
        keys=(
            *(FeatureKey(name=name) for name in LOOKUP.keys),
            FeatureKey(name="date", type=KeyType.DATE, default="tomorrow"),
        ),
        columns=tuple(
            FeatureColumn(
                name=each.name,
                datatype=each.datatype,
                description=each.description,
                unit=each.unit,
            )
            for each in COLUMNS
        ),
        newest=newest,
        max_age_seconds=MAX_AGE_SECONDS,
        time_zone=time_zone,
        synthetic=synthetic,
    )


@dataclass(frozen=True)
class FeatureRequest:
    """Rows for which features are computed, each field an array [rows].

    A store or product without facts is unknown.
    """

    store: Names
    product: Names
    day: Days
    made: Days

    def __len__(self) -> int:
        return len(self.day)


Definition = Callable[[Sales, FeatureRequest], Floats]
"""Features [rows, columns] FP32, NaN for unknown values."""


def features(sales: Sales, requested: FeatureRequest) -> Floats:
    """Return the features of each row, [rows, columns] FP32, in the order of ``COLUMNS``.

    The features of a row are bit-identical, whatever other facts and rows are given: sums are
    computed day by day from the newest, so that a value in serving does not depend on the length of
    the loaded history.
    """
    cube = _Cube.of(sales, requested)
    pair, product, store, everything = (_Past(requested) for _ in range(4))
    promoted = np.zeros(len(requested))
    for age in range(1, WINDOW + 1):
        units = cube.at(cube.units, cube.pair, requested.made - age)
        pair.add(age, units, np.ones(len(requested)))
        promoted += np.where(
            np.isnan(units), 0, cube.at(cube.promotion, cube.pair, requested.made - age)
        )
        product.add(age, *cube.group(cube.product_sums, cube.product, requested.made - age))
        store.add(age, *cube.group(cube.store_sums, cube.store, requested.made - age))
        everything.add(
            age,
            *cube.group(cube.sums, np.zeros(len(requested), dtype=np.int64), requested.made - age),
        )
    turn = 2 * np.pi * _day_of_year(requested.day) / 365.25
    columns = [
        *(pair.last, pair.last_age, _mean(pair.sum_7, pair.count_7), _mean(pair.sum, pair.count)),
        *(_mean(pair.sum_weekday, pair.count_weekday), _mean(promoted, pair.count), pair.count),
        *(_mean(past.sum, past.count) for past in (product, store, everything)),
        *(
            (requested.day - requested.made).astype(np.float64),
            _weekday(requested.day).astype(np.float64),
            np.sin(turn),
            np.cos(turn),
        ),
        cube.at(cube.promotion, cube.pair, requested.day),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


class _Past:
    """Sums over the days before each row's morning, accumulated from the newest day."""

    def __init__(self, requested: FeatureRequest) -> None:
        self._requested = requested
        self.sum, self.count, self.sum_7, self.count_7, self.sum_weekday, self.count_weekday = (
            np.zeros((6, len(requested)))
        )
        self.last = np.full(len(requested), np.nan)
        self.last_age = np.full(len(requested), np.nan)

    def add(self, age: int, units: NDArray[np.float64], count: NDArray[np.float64]) -> None:
        """Add the ``units`` [rows] sold ``age`` days before the morning, in ``count`` facts.

        NaN marks unknown units.
        """
        known = ~np.isnan(units)
        units, count = np.where(known, units, 0), np.where(known, count, 0)
        first = known & np.isnan(self.last)
        self.last, self.last_age = (
            np.where(first, units, self.last),
            np.where(first, age, self.last_age),
        )
        self.sum, self.count = self.sum + units, self.count + count
        if age <= 7:
            self.sum_7, self.count_7 = self.sum_7 + units, self.count_7 + count
        same = _weekday(self._requested.made - age) == _weekday(self._requested.day)
        self.sum_weekday, self.count_weekday = (
            self.sum_weekday + units * same,
            self.count_weekday + count * same,
        )


@dataclass(frozen=True)
class _Cube:
    """The facts by pair and day, and the indices of each requested row in it (-1: none)."""

    first: np.datetime64
    units: NDArray[np.float64]
    """[pairs, days], NaN: unknown."""
    promotion: NDArray[np.float64]
    product_sums: NDArray[np.float64]
    """[2, products, days]: sums of units, and number of facts."""
    store_sums: NDArray[np.float64]
    sums: NDArray[np.float64]
    pair: NDArray[np.int64]
    product: NDArray[np.int64]
    store: NDArray[np.int64]

    @classmethod
    def of(cls, sales: Sales, requested: FeatureRequest) -> "_Cube":
        stores, store_of = np.unique(sales.store, return_inverse=True)
        products, product_of = np.unique(sales.product, return_inverse=True)
        pairs, pair_of = np.unique(store_of * len(products) + product_of, return_inverse=True)
        first = sales.day.min()
        shape = (len(pairs), int((sales.day.max() - first).astype(int)) + 1)
        units, promotion = np.full(shape, np.nan), np.full(shape, np.nan)
        at = (pair_of, (sales.day - first).astype(int))
        units[at], promotion[at] = sales.units, sales.promotion
        store, product = (
            _positions(stores, requested.store),
            _positions(products, requested.product),
        )
        pair = _positions(
            pairs, np.where((store < 0) | (product < 0), -1, store * len(products) + product)
        )
        by_product = _sums(units, pairs % len(products), len(products))
        by_store = _sums(units, pairs // len(products), len(stores))
        everything = _sums(units, np.zeros(len(pairs), dtype=np.int64), 1)
        return cls(first, units, promotion, by_product, by_store, everything, pair, product, store)

    def at(
        self, values: NDArray[np.float64], row: NDArray[np.int64], day: Days
    ) -> NDArray[np.float64]:
        """Return ``values`` [.., days] of each row on its day [rows]; NaN outside."""
        position = (day - self.first).astype(np.int64)
        inside = (row >= 0) & (position >= 0) & (position < values.shape[1])
        return np.asarray(
            np.where(
                inside, values[np.where(inside, row, 0), np.where(inside, position, 0)], np.nan
            )
        )

    def group(
        self, sums: NDArray[np.float64], row: NDArray[np.int64], day: Days
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return units and number of facts of each row's group on its day; NaN for none."""
        units, count = self.at(sums[0], row, day), self.at(sums[1], row, day)
        return np.where(count > 0, units, np.nan), count


def _sums(
    units: NDArray[np.float64], group_of: NDArray[np.int64], groups: int
) -> NDArray[np.float64]:
    """Return [2, groups, days]: sums of units, and number of facts.

    Pairs are added one by one, because numpy's sum groups them depending on their number.
    """
    sums = np.zeros((2, groups, units.shape[1]))
    for index, group in enumerate(group_of):
        known = ~np.isnan(units[index])
        sums[0, group] += np.where(known, units[index], 0)
        sums[1, group] += known
    return sums


def _positions(known: NDArray[np.generic], wanted: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the position of each ``wanted`` value in the sorted ``known`` ones; -1: none."""
    position = np.searchsorted(known, wanted)
    position = np.where(position < len(known), position, 0)
    return np.asarray(np.where(known[position] == wanted, position, -1), dtype=np.int64)


def _mean(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))


def _weekday(days: Days) -> NDArray[np.int64]:
    """Return the weekday of each day; 0 is Monday."""
    return np.asarray((days.astype(np.int64) + 3) % 7)


def _day_of_year(days: Days) -> NDArray[np.int64]:
    """Return the day of the year of each day, from 0."""
    return np.asarray((days - days.astype("datetime64[Y]")).astype(np.int64))


def check_point_in_time(
    sales: Sales, requested: FeatureRequest, found: Floats, definition: Definition = features
) -> None:
    """Raise Leakage unless the features depend on the past alone.

    On some mornings, future sales are removed and then changed; the features must stay
    bit-identical.
    """
    mornings = np.unique(requested.made)
    for morning in mornings[np.unique(np.linspace(0, len(mornings) - 1, 5).astype(int))]:
        rows = requested.made == morning
        few = FeatureRequest(
            requested.store[rows],
            requested.product[rows],
            requested.day[rows],
            requested.made[rows],
        )
        future = sales.day >= morning
        for what, units in (("removed", np.nan), ("changed", 1e6)):
            other = sales.with_units(np.where(future, units, sales.units))
            differing = np.flatnonzero(
                (_bits(definition(other, few)) != _bits(found[rows])).any(axis=0)
            )
            if len(differing):
                names = ", ".join(COLUMNS[index].name for index in differing)
                raise Leakage(
                    f"{names}: differ when sales from {morning} on, which were unknown that "
                    f"morning, are {what}"
                )


def _bits(values: Floats) -> NDArray[np.uint32]:
    canonical = values + np.float32(0)
    canonical[np.isnan(canonical)] = np.nan
    return canonical.view(np.uint32)
