"""Training rows from past sales: the features of a morning, and the units sold on a later day."""

import zlib
from datetime import date, timedelta

import numpy as np
from slipway.errors import Unavailable
from slipway.training.dataset import DatasetSettings, Table

from slipway_jobs.errors import WarehouseError
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

BLOCK = 28
"""Days of a block, counted back from the newest day.

No forecast crosses a block, so that in a table split between blocks no row has features of one part
and a label of the other.
"""

UNTIL = date(2025, 12, 31)
"""Last day of the generated history."""


def history(sales: Sales, definition: Definition = features) -> Table:
    """Return a row for each known quantity after the first ``WINDOW`` days; the label is in units.

    Its morning is up to ``REACH`` days before; a hash determines the number of days. A group is a
    pair. Raises Leakage.
    """
    requested, units = forecasts(sales)
    found = definition(sales, requested)
    check_point_in_time(sales, requested, found, definition)
    return Table.of(found, units, groups=pairs(requested), times=requested.day)


def forecasts(sales: Sales) -> tuple[FeatureRequest, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return the past forecast requests with their mornings, and the units sold."""
    if not len(sales):
        raise Unavailable("there are no sales for training")
    rows = sales.take(~np.isnan(sales.units) & (sales.day >= sales.day.min() + WINDOW))
    if not len(rows):
        raise Unavailable(
            f"there are sales of at most {WINDOW} days, which leaves no past for features"
        )
    since_block = BLOCK - 1 - (sales.newest - rows.day).astype(np.int64) % BLOCK
    hashes = np.array(
        [
            zlib.crc32(f"{pair}/{day}".encode())
            for pair, day in zip(pairs(rows), rows.day, strict=True)
        ]
    )
    horizon = hashes % np.minimum(REACH, since_block + 1)
    return FeatureRequest(rows.store, rows.product, rows.day, rows.day - horizon), rows.units


def pairs(rows: Sales | FeatureRequest) -> list[str]:
    """Return the name of each row's pair, ``store/product``."""
    return [
        f"{store}/{product}"
        for store, product in zip(rows.store.tolist(), rows.product.tolist(), strict=True)
    ]


def of_file(content: bytes, name: str) -> Table:
    """Return the history of a CSV file. Raises CorruptTable with line and column."""
    return history(read_sales(content, name))


def of_generator() -> Table:
    """Return the history of generated sales; it always ends on ``UNTIL``."""
    return history(synthetic_sales(UNTIL))


def of_warehouse(settings: DatasetSettings) -> Table:
    """Return the history of the warehouse through the last complete week, ending on Sunday.

    Trainings within a week thus have the same table. Raises Unavailable when there is no warehouse,
    or when its sales are generated: these are another dataset.
    """
    if settings.database_url is None:
        raise Unavailable(
            "dataset sales-warehouse is not available: SLIPWAY_DATABASE_URL is not set"
        )
    try:
        with warehouse(settings.database_url) as db:
            synthetic, newest = db.is_synthetic(), db.newest()
            if synthetic is not False or newest is None:
                holds = "no sales" if synthetic is None or newest is None else "generated sales"
                raise Unavailable(
                    f"dataset sales-warehouse is not available: the warehouse has {holds}"
                )
            return history(db.sales(until=newest - timedelta(days=(newest.weekday() + 1) % 7)))
    except WarehouseError as error:
        raise Unavailable(f"dataset sales-warehouse is not available: {error}") from error
