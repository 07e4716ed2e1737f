"""What is known of a day's sales on the morning on which a forecast is made: one definition, for
training and for serving.

A forecast is made for ``day`` on the morning of ``made``; facts of days before ``made`` may be
used, and of ``day`` itself what is known in advance: the calendar, and whether a promotion is
planned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from slipway_contract.signature import Column, Lookup
from slipway_contract.v2 import Datatype

from slipway_jobs.data.dataset import Floats
from slipway_jobs.errors import Leakage
from slipway_jobs.sales.table import Sales

NAME = "sales"
"""Of this feature set in the warehouse, and in the signatures that look it up."""
VERSION = 1
"""Counts up with each change of a meaning: a model reads the features that it was trained on, or
none.
"""
WINDOW = 28
"""Days before the morning that are looked at."""
REACH = 14
"""Days, from the morning's own on, for which forecasts are made."""

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
    _column("last", "units on the last day that is known of the pair"),
    _column("last_age", "how long before the forecast's morning that day was", "d"),
    _column("mean_7", "mean units of the pair in the 7 days before the morning"),
    _column("mean_28", "mean units of the pair in the 28 days before the morning"),
    _column(
        "weekday_mean",
        "mean units of the pair on the same weekday in the 28 days before the morning",
    ),
    _column(
        "promoted_28", "share of those 28 days, as far as known, on which the pair was promoted"
    ),
    _column(
        "known_28",
        "how many of those 28 days are known of the pair; 0: it is not known",
        "d",
        missing=False,
    ),
    _column(
        "product_mean",
        "mean units a store and day of the product in those 28 days, over all stores",
    ),
    _column(
        "store_mean",
        "mean units a product and day of the store in those 28 days, over all products",
    ),
    _column("overall_mean", "mean units a store, product and day in those 28 days"),
    _column("horizon", "days from the forecast's morning to the day asked for", "d", missing=False),
    _column("weekday", "of the day asked for; 0 is Monday", missing=False),
    _column("year_sin", "sine of the day asked for in the year", missing=False),
    _column("year_cos", "cosine of the day asked for in the year", missing=False),
    _column("promotion", "1: a promotion is planned for the day asked for"),
)
"""Inputs of the model, in this order."""


@dataclass(frozen=True)
class FeatureRequest:
    """Rows that features are asked for, each an array [rows]. A store or product that no fact
    speaks of is unknown.
    """

    store: Names
    product: Names
    day: Days
    made: Days

    def __len__(self) -> int:
        return len(self.day)


Definition = Callable[[Sales, FeatureRequest], Floats]
"""Features [rows, columns] FP32, NaN where there is nothing to know."""


def features(sales: Sales, asked: FeatureRequest) -> Floats:
    """What is known on each morning, in the order of ``COLUMNS``.

    The result for a row is the same, to the bit, whatever other facts and rows there are: sums are
    made day by day, the newest first, so that no number of the serving's depends on how much of the
    past was loaded.
    """
    cube = _Cube.of(sales, asked)
    pair, product, store, everything = (_Past(asked) for _ in range(4))
    promoted = np.zeros(len(asked))
    for age in range(1, WINDOW + 1):
        units = cube.at(cube.units, cube.pair, asked.made - age)
        pair.see(age, units, np.ones(len(asked)))
        promoted += np.where(
            np.isnan(units), 0, cube.at(cube.promotion, cube.pair, asked.made - age)
        )
        product.see(age, *cube.group(cube.product_sums, cube.product, asked.made - age))
        store.see(age, *cube.group(cube.store_sums, cube.store, asked.made - age))
        everything.see(
            age, *cube.group(cube.sums, np.zeros(len(asked), dtype=np.int64), asked.made - age)
        )
    turn = 2 * np.pi * _day_of_year(asked.day) / 365.25
    columns = [
        *(pair.last, pair.last_age, _mean(pair.sum_7, pair.count_7), _mean(pair.sum, pair.count)),
        *(_mean(pair.sum_weekday, pair.count_weekday), _mean(promoted, pair.count), pair.count),
        *(_mean(past.sum, past.count) for past in (product, store, everything)),
        *(
            (asked.day - asked.made).astype(np.float64),
            _weekday(asked.day).astype(np.float64),
            np.sin(turn),
            np.cos(turn),
        ),
        cube.at(cube.promotion, cube.pair, asked.day),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


class _Past:
    """Sums over the days before each row's morning, seen from the newest on."""

    def __init__(self, asked: FeatureRequest) -> None:
        self._asked = asked
        self.sum, self.count, self.sum_7, self.count_7, self.sum_weekday, self.count_weekday = (
            np.zeros((6, len(asked)))
        )
        self.last = np.full(len(asked), np.nan)
        self.last_age = np.full(len(asked), np.nan)

    def see(self, age: int, units: NDArray[np.float64], count: NDArray[np.float64]) -> None:
        """``units`` were sold ``age`` days before the morning, in ``count`` facts together; NaN
        where nothing is known.
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
        same = _weekday(self._asked.made - age) == _weekday(self._asked.day)
        self.sum_weekday, self.count_weekday = (
            self.sum_weekday + units * same,
            self.count_weekday + count * same,
        )


@dataclass(frozen=True)
class _Cube:
    """The facts by pair and day, and for each row asked for where it is in there (-1: nowhere)."""

    first: np.datetime64
    units: NDArray[np.float64]
    """[pairs, days], NaN: not known."""
    promotion: NDArray[np.float64]
    product_sums: NDArray[np.float64]
    """[2, products, days]: units, and facts that they are the sum of."""
    store_sums: NDArray[np.float64]
    sums: NDArray[np.float64]
    pair: NDArray[np.int64]
    product: NDArray[np.int64]
    store: NDArray[np.int64]

    @classmethod
    def of(cls, sales: Sales, asked: FeatureRequest) -> "_Cube":
        stores, store_of = np.unique(sales.store, return_inverse=True)
        products, product_of = np.unique(sales.product, return_inverse=True)
        pairs, pair_of = np.unique(store_of * len(products) + product_of, return_inverse=True)
        first = sales.day.min()
        shape = (len(pairs), int((sales.day.max() - first).astype(int)) + 1)
        units, promotion = np.full(shape, np.nan), np.full(shape, np.nan)
        at = (pair_of, (sales.day - first).astype(int))
        units[at], promotion[at] = sales.units, sales.promotion
        store, product = _places(stores, asked.store), _places(products, asked.product)
        pair = _places(
            pairs, np.where((store < 0) | (product < 0), -1, store * len(products) + product)
        )
        by_product = _sums(units, pairs % len(products), len(products))
        by_store = _sums(units, pairs // len(products), len(stores))
        everything = _sums(units, np.zeros(len(pairs), dtype=np.int64), 1)
        return cls(first, units, promotion, by_product, by_store, everything, pair, product, store)

    def at(
        self, values: NDArray[np.float64], row: NDArray[np.int64], day: Days
    ) -> NDArray[np.float64]:
        """``values`` [.., days] of each row on its day; NaN outside."""
        place = (day - self.first).astype(np.int64)
        inside = (row >= 0) & (place >= 0) & (place < values.shape[1])
        return np.asarray(
            np.where(inside, values[np.where(inside, row, 0), np.where(inside, place, 0)], np.nan)
        )

    def group(
        self, sums: NDArray[np.float64], row: NDArray[np.int64], day: Days
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Units and number of facts of each row's group on its day; NaN where there is none."""
        units, count = self.at(sums[0], row, day), self.at(sums[1], row, day)
        return np.where(count > 0, units, np.nan), count


def _sums(
    units: NDArray[np.float64], group_of: NDArray[np.int64], groups: int
) -> NDArray[np.float64]:
    """[2, groups, days]. Added one pair after the other: numpy's own sum would group them by how
    many there are.
    """
    sums = np.zeros((2, groups, units.shape[1]))
    for index, group in enumerate(group_of):
        known = ~np.isnan(units[index])
        sums[0, group] += np.where(known, units[index], 0)
        sums[1, group] += known
    return sums


def _places(known: NDArray[np.generic], wanted: NDArray[np.generic]) -> NDArray[np.int64]:
    """Where each wanted one is among the known ones, which are sorted; -1: nowhere."""
    place = np.searchsorted(known, wanted)
    place = np.where(place < len(known), place, 0)
    return np.asarray(np.where(known[place] == wanted, place, -1), dtype=np.int64)


def _mean(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))


def _weekday(days: Days) -> NDArray[np.int64]:
    """0 is Monday."""
    return np.asarray((days.astype(np.int64) + 3) % 7)


def _day_of_year(days: Days) -> NDArray[np.int64]:
    """From 0."""
    return np.asarray((days - days.astype("datetime64[Y]")).astype(np.int64))


def check_point_in_time(
    sales: Sales, asked: FeatureRequest, found: Floats, definition: Definition = features
) -> None:
    """Raise Leakage unless the features were made of the past alone.

    On some mornings the future is taken away, and then made into something else; what was known on
    them must not change by a bit.
    """
    mornings = np.unique(asked.made)
    for morning in mornings[np.unique(np.linspace(0, len(mornings) - 1, 5).astype(int))]:
        rows = asked.made == morning
        few = FeatureRequest(
            asked.store[rows], asked.product[rows], asked.day[rows], asked.made[rows]
        )
        future = sales.day >= morning
        for what, units in (("taken away", np.nan), ("changed", 1e6)):
            other = sales.with_units(np.where(future, units, sales.units))
            differing = np.flatnonzero(
                (_bits(definition(other, few)) != _bits(found[rows])).any(axis=0)
            )
            if len(differing):
                names = ", ".join(COLUMNS[index].name for index in differing)
                raise Leakage(
                    f"{names}: differ when sales from {morning} on, which nobody knew that "
                    f"morning, are {what}"
                )


def _bits(values: Floats) -> NDArray[np.uint32]:
    canonical = values + np.float32(0)
    canonical[np.isnan(canonical)] = np.nan
    return canonical.view(np.uint32)
