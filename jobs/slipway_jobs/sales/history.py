"""The past as rows to learn from: what was known on a morning, and what was sold then."""

import zlib
from datetime import date, timedelta

import numpy as np

from slipway_jobs.data.dataset import Table
from slipway_jobs.errors import Unavailable, WarehouseError
from slipway_jobs.sales.features import (
    REACH,
    WINDOW,
    Definition,
    FeatureRequest,
    check_point_in_time,
    features,
)
from slipway_jobs.sales.synthetic import synthetic_sales
from slipway_jobs.sales.table import Sales, read_sales
from slipway_jobs.sales.warehouse import warehouse
from slipway_jobs.settings import Settings

BLOCK = 28
"""Days, counted back from the newest. No forecast reaches from one block into the next, so that a
table which is parted between blocks holds no row that was forecast in one part for a day of the
other.
"""

UNTIL = date(2025, 12, 31)
"""Last day of the generated history."""


def history(sales: Sales, definition: Definition = features) -> Table:
    """A row for each quantity that is known, after the first ``WINDOW`` days: features of a morning
    before, label in units.

    The morning is up to ``REACH`` days before; how many is drawn by a hash. A group is a pair.
    Raises Leakage.
    """
    asked, units = forecasts(sales)
    found = definition(sales, asked)
    check_point_in_time(sales, asked, found, definition)
    return Table.of(found, units, groups=pairs(asked), times=asked.day)


def forecasts(sales: Sales) -> tuple[FeatureRequest, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """What would have been asked for, and on which mornings; and the units that were sold then."""
    if not len(sales):
        raise Unavailable("there are no sales to learn from")
    rows = sales.take(~np.isnan(sales.units) & (sales.day >= sales.day.min() + WINDOW))
    if not len(rows):
        raise Unavailable(
            f"there are sales of no more than {WINDOW} days, so there is no past to learn from"
        )
    since_block = BLOCK - 1 - (sales.newest - rows.day).astype(np.int64) % BLOCK
    drawn = np.array(
        [
            zlib.crc32(f"{pair}/{day}".encode())
            for pair, day in zip(pairs(rows), rows.day, strict=True)
        ]
    )
    horizon = drawn % np.minimum(REACH, since_block + 1)
    return FeatureRequest(rows.store, rows.product, rows.day, rows.day - horizon), rows.units


def pairs(rows: Sales | FeatureRequest) -> list[str]:
    """A name for each row's pair."""
    return [
        f"{store}/{product}"
        for store, product in zip(rows.store.tolist(), rows.product.tolist(), strict=True)
    ]


def of_file(content: bytes, name: str) -> Table:
    """Raises CorruptTable naming line and column."""
    return history(read_sales(content, name))


def of_generator() -> Table:
    """The same each time: it ends on ``UNTIL``, whatever day it is."""
    return history(synthetic_sales(UNTIL))


def of_warehouse(settings: Settings) -> Table:
    """Everything through the last Sunday that is over, so that what is learnt from during a week is
    one table.

    Raises Unavailable when there is no warehouse, or when its sales are generated: those are a
    dataset of their own.
    """
    if settings.database_url is None:
        raise Unavailable("dataset sales-warehouse cannot be had: SLIPWAY_DATABASE_URL is not set")
    try:
        with warehouse(settings.database_url) as house:
            synthetic, newest = house.holds_synthetic(), house.newest()
            if synthetic is not False or newest is None:
                holds = "no sales" if synthetic is None or newest is None else "generated sales"
                raise Unavailable(
                    f"dataset sales-warehouse cannot be had: the warehouse holds {holds}"
                )
            return history(house.sales(until=newest - timedelta(days=(newest.weekday() + 1) % 7)))
    except WarehouseError as error:
        raise Unavailable(f"dataset sales-warehouse cannot be had: {error}") from error
