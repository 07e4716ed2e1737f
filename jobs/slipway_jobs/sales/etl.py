"""Raw sales into the warehouse, and from there what is known of the days to come."""

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

from slipway_jobs.errors import Refused, Unavailable, WrongParameter
from slipway_jobs.sales.features import COLUMNS, LOOKUP, REACH, WINDOW, FeatureRequest, features
from slipway_jobs.sales.synthetic import SEED, synthetic_rows
from slipway_jobs.sales.table import ANY, Rejected, Sale, Sales, read_rows
from slipway_jobs.sales.warehouse import FeatureSet, Warehouse, warehouse
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

FILE = "sales.csv"
"""In the mirror folder."""
SHOWN = 20
"""Rejected rows that are told one by one; the others are counted."""


@dataclass(frozen=True)
class EtlOptions:
    """What is asked for."""

    file: Path | None = None
    """Raw sales; when None, ``sales.csv`` of the mirror, and without one generated sales."""
    time_zone: str = "UTC"
    """Where the stores are: when it is tomorrow."""
    max_rejected: float = 0.01
    """Share of the rows beyond which nothing is taken."""
    replace: bool = False
    """Forget what is in the warehouse first."""

    def today(self) -> date:
        """Raises WrongParameter."""
        try:
            return datetime.now(ZoneInfo(self.time_zone)).date()
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise WrongParameter(
                f"--time-zone: {self.time_zone!r} is not a time zone; write for example "
                "Europe/Berlin"
            ) from None


@dataclass
class _Sieve:
    """Lets rows through that fit, and keeps count of the others."""

    today: date
    rejected: int = 0
    first: list[str] = field(default_factory=list)

    def __call__(self, rows: Iterable[Sale | Rejected]) -> Iterator[Sale]:
        for row in rows:
            if isinstance(row, Sale) and row.units is not None and row.day >= self.today:
                row = Rejected(
                    row.line,
                    "units",
                    f"{row.day} is not over, so nobody knows them; leave them empty for a plan",
                )
            if isinstance(row, Sale):
                yield row
                continue
            self.rejected += 1
            if len(self.first) < SHOWN:
                self.first.append(str(row))
                logger.warning("left out: %s", row)


def etl(request: EtlOptions, settings: Settings) -> dict[str, Any]:
    """Bring the warehouse up to date; the result as JSON. The same again changes nothing.

    Raises Refused when too many rows do not fit, or when generated sales would be mixed with
    others; then nothing is changed.
    """
    if settings.database_url is None:
        raise WrongParameter(
            "SLIPWAY_DATABASE_URL: is not set; it names the PostgreSQL database that holds "
            "the warehouse"
        )
    today = request.today()
    path = request.file or _mirrored(settings)
    synthetic, source = path is None, str(path or f"slipway_jobs.sales.synthetic, seed {SEED}")
    sieve = _Sieve(today)
    with warehouse(settings.database_url) as house, _rows(path, today) as rows:
        house.prepare()
        if request.replace:
            house.clear()
        _check_kind(house.holds_synthetic(), synthetic)
        taken = house.stage(sieve(rows))
        _check_rejected(sieve, taken, request.max_rejected, source)
        written, newest = house.write(), house.newest()
        house.record(source, synthetic, written, sieve.rejected, newest)
        published = publish(house, newest, synthetic) if newest else None
    return {
        "state": "loaded", "source": source, "synthetic": synthetic, "timeZone": request.time_zone,
        "rows": taken + sieve.rejected,
        **vars(written), "rejected": sieve.rejected, "rejections": sieve.first,
        "newest": newest and newest.isoformat(), "ageDays": newest and (today - newest).days,
        "features": published,
    }  # fmt: skip


def publish(house: Warehouse, newest: date, synthetic: bool) -> dict[str, Any]:
    """What is known on the morning after ``newest`` of each pair for the days that follow, and of
    pairs that nobody knows.
    """
    morning = newest + timedelta(days=1)
    last = newest + timedelta(days=REACH)
    sales = house.sales(morning - timedelta(days=WINDOW), last)
    entities = _entities(sales)
    days = np.arange(np.datetime64(morning), np.datetime64(last) + 1)
    asked = FeatureRequest(
        store=np.tile([store for (store, _), _ in entities], len(days)),
        product=np.tile([name for (_, name), _ in entities], len(days)),
        day=np.repeat(days, len(entities)),
        made=np.full(len(days) * len(entities), np.datetime64(morning)),
    )
    about = FeatureSet(
        LOOKUP.features, [column.name for column in COLUMNS], newest, morning, last, synthetic
    )
    rows = ((day, entity, rank) for day, (entity, rank) in product(days.astype(date), entities))
    house.replace_features(about, rows, features(sales, asked))
    return {
        "name": about.name,
        "from": morning.isoformat(),
        "to": last.isoformat(),
        "rows": len(asked),
    }


def _entities(sales: Sales) -> list[tuple[tuple[str, str], int]]:
    """Values of the keys and rank: pairs, then a product anywhere, anything in a store, anything
    anywhere.
    """
    pairs = sorted(set(zip(sales.store.tolist(), sales.product.tolist(), strict=True)))
    products = [(ANY, name) for name in sorted({name for _, name in pairs})]
    stores = [(name, ANY) for name in sorted({name for name, _ in pairs})]
    ranked = enumerate((pairs, products, stores, [(ANY, ANY)]))
    return [(entity, rank) for rank, group in ranked for entity in group]


def _mirrored(settings: Settings) -> Path | None:
    path = settings.data / FILE if settings.data else None
    return path if path and path.is_file() else None


@contextmanager
def _rows(path: Path | None, today: date) -> Iterator[Iterable[Sale | Rejected]]:
    """Raises Unavailable."""
    if path is None:
        yield synthetic_rows(today - timedelta(days=1))
        return
    try:
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise Unavailable(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        yield read_rows(file, str(path))


def _check_kind(there: bool | None, synthetic: bool) -> None:
    if there is not None and there != synthetic:
        kinds = ("real", "generated") if synthetic else ("generated", "real")
        raise Refused(
            f"the warehouse holds {kinds[0]} sales, and these are {kinds[1]}; --replace "
            "forgets the former"
        )


def _check_rejected(sieve: _Sieve, taken: int, allowed: float, source: str) -> None:
    if not taken:
        raise Refused(
            f"{source}: no row fits; the first: {'; '.join(sieve.first[:3]) or 'there is none'}"
        )
    if (share := sieve.rejected / (taken + sieve.rejected)) > allowed:
        first = "; ".join(sieve.first[:3])
        raise Refused(
            f"{source}: {share:.1%} of the rows do not fit, and --max-rejected is "
            f"{allowed:.1%}; the first: {first}"
        )
