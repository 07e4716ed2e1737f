"""The Job ``etl``: loads raw sales into the warehouse and computes features for the next days."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from slipway.errors import Refused, Unavailable, WrongParameter

from slipway_jobs.sales.features import REACH, WINDOW, FeatureRequest, feature_set, features
from slipway_jobs.sales.synthetic import SEED, synthetic_rows
from slipway_jobs.sales.table import ANY, Rejected, Sale, Sales, read_rows
from slipway_jobs.sales.warehouse import Warehouse, warehouse
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

FILE = "sales.csv"
"""File name in the mirror folder."""
SHOWN = 20
"""Number of rejected rows that are listed; all are counted."""


@dataclass(frozen=True)
class EtlOptions:
    """The parameters of the Job."""

    file: Path | None = None
    """Raw sales; None uses ``sales.csv`` of the mirror, otherwise generated sales."""
    time_zone: str = "UTC"
    """Time zone of the stores; it defines the current day."""
    max_rejected: float = 0.01
    """Largest share of rejected rows; above it, nothing is loaded."""
    replace: bool = False
    """Delete the warehouse's rows first."""

    def today(self) -> date:
        """Return the current day in the stores' time zone. Raises WrongParameter."""
        try:
            return datetime.now(ZoneInfo(self.time_zone)).date()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise WrongParameter(
                f"--time-zone: {self.time_zone!r} is not a time zone; write for example "
                "Europe/Berlin"
            ) from None


@dataclass
class _RowFilter:
    """Passes valid rows, and counts and lists the others."""

    today: date
    rejected: int = 0
    first: list[str] = field(default_factory=list)

    def __call__(self, rows: Iterable[Sale | Rejected]) -> Iterator[Sale]:
        for row in rows:
            if isinstance(row, Sale) and row.units is not None and row.day >= self.today:
                row = Rejected(
                    row.line,
                    "units",
                    f"{row.day} is not over, so they are unknown; leave them empty for a plan",
                )
            if isinstance(row, Sale):
                yield row
                continue
            self.rejected += 1
            if len(self.first) < SHOWN:
                self.first.append(str(row))
                logger.warning("rejected: %s", row)


def etl(request: EtlOptions, settings: Settings) -> dict[str, Any]:
    """Load raw sales, compute the features, and return the result as JSON. The Job is idempotent.

    Raises Refused when too many rows are invalid, or when generated sales would be mixed with
    others; then nothing changes.
    """
    if settings.database_url is None:
        raise WrongParameter(
            "SLIPWAY_DATABASE_URL: is not set; it names the PostgreSQL database that holds "
            "the warehouse"
        )
    today = request.today()
    path = request.file or _mirrored(settings)
    synthetic, source = path is None, str(path or f"slipway_jobs.sales.synthetic, seed {SEED}")
    row_filter = _RowFilter(today)
    with warehouse(settings.database_url) as db, _rows(path, today) as rows:
        db.prepare()
        if request.replace:
            db.clear()
        _check_kind(db.is_synthetic(), synthetic)
        taken = db.stage(row_filter(rows))
        _check_rejected(row_filter, taken, request.max_rejected, source)
        written, newest = db.write(), db.newest()
        db.record(source, synthetic, written, row_filter.rejected, newest)
        published = publish(db, newest, synthetic, request.time_zone) if newest else None
    return {
        "state": "loaded", "source": source, "synthetic": synthetic, "timeZone": request.time_zone,
        "rows": taken + row_filter.rejected,
        **vars(written), "rejected": row_filter.rejected, "rejections": row_filter.first,
        "newest": newest and newest.isoformat(), "ageDays": newest and (today - newest).days,
        "features": published,
    }  # fmt: skip


def publish(db: Warehouse, newest: date, synthetic: bool, time_zone: str = "UTC") -> dict[str, Any]:
    """Compute the features of the morning after ``newest`` for the next days, and store them.

    They cover all pairs, and unknown pairs by wildcards.
    """
    morning = newest + timedelta(days=1)
    last = newest + timedelta(days=REACH)
    sales = db.sales(morning - timedelta(days=WINDOW), last)
    entities = _entities(sales)
    days = np.arange(np.datetime64(morning), np.datetime64(last) + 1)
    requested = FeatureRequest(
        store=np.tile([store for store, _ in entities], len(days)),
        product=np.tile([name for _, name in entities], len(days)),
        day=np.repeat(days, len(entities)),
        made=np.full(len(days) * len(entities), np.datetime64(morning)),
    )
    rows = ((*entity, day) for day, entity in product(days.astype(date), entities))
    declared = feature_set(newest, time_zone, synthetic)
    count = db.publish(
        declared, zip(rows, features(sales, requested).astype(object).tolist(), strict=True)
    )
    return {
        "name": declared.name,
        "from": morning.isoformat(),
        "to": last.isoformat(),
        "rows": count,
    }


def _entities(sales: Sales) -> list[tuple[str, str]]:
    """Return the keys: pairs, (any, product), (store, any), (any, any)."""
    pairs = sorted(set(zip(sales.store.tolist(), sales.product.tolist(), strict=True)))
    products = [(ANY, name) for name in sorted({name for _, name in pairs})]
    stores = [(name, ANY) for name in sorted({name for name, _ in pairs})]
    return [*pairs, *products, *stores, (ANY, ANY)]


def _mirrored(settings: Settings) -> Path | None:
    path = settings.data / FILE if settings.data else None
    return path if path and path.is_file() else None


@contextmanager
def _rows(path: Path | None, today: date) -> Iterator[Iterable[Sale | Rejected]]:
    """Open the rows of the file, or generate rows. Raises Unavailable."""
    if path is None:
        yield synthetic_rows(today - timedelta(days=1))
        return
    try:
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise Unavailable(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        yield read_rows(file, str(path))


def _check_kind(existing: bool | None, synthetic: bool) -> None:
    if existing is not None and existing != synthetic:
        kinds = ("real", "generated") if synthetic else ("generated", "real")
        raise Refused(
            f"the warehouse has {kinds[0]} sales, and these are {kinds[1]}; set --replace to "
            "delete the former"
        )


def _check_rejected(row_filter: _RowFilter, taken: int, allowed: float, source: str) -> None:
    if not taken:
        raise Refused(
            f"{source}: has no valid row; the first: {'; '.join(row_filter.first[:3]) or 'none'}"
        )
    if (share := row_filter.rejected / (taken + row_filter.rejected)) > allowed:
        first = "; ".join(row_filter.first[:3])
        raise Refused(
            f"{source}: {share:.1%} of the rows are invalid, and --max-rejected is "
            f"{allowed:.1%}; the first: {first}"
        )
