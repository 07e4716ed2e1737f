"""The search of the sources of a declared dataset.

The sources in order: the mirror folder (``SLIPWAY_DATA``), the public source, then a package, a
database or a generator. Every table is verified with the digest of its declaration before it is
used.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from slipway.errors import Refused, Unavailable, WrongDigest
from slipway.training.dataset import Dataset, Loaded, SourceKind, Table
from slipway_contract.url import read_url

from slipway_jobs.download import download
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

_LARGEST = 64 * 2**20
"""Largest file in bytes that is downloaded from a public source."""


def first_available(entries: Sequence[Dataset], settings: Settings) -> Loaded:
    """Return the first available dataset. Raises Unavailable when none is."""
    reasons = []
    for entry in entries:
        try:
            return find(entry, settings)
        except Unavailable as error:
            logger.info("%s", error)
            reasons.append(str(error))
    raise Unavailable("; ".join(reasons))


def load(entry: Dataset, settings: Settings) -> Table:
    """Return the dataset's table; raises as ``find`` does."""
    return find(entry, settings).table


def find(entry: Dataset, settings: Settings) -> Loaded:
    """Return the dataset's verified table and the kind of its source.

    Raises Unavailable when no source has it, CorruptTable or WrongDigest when a source has other
    content: a wrong copy is never skipped silently.
    """
    table, source_kind, where = _search(entry, settings)
    if entry.digest is not None and table.digest != entry.digest:
        raise WrongDigest(
            f"{where} is not the dataset {entry.name}: its {len(table)} rows have the digest "
            f"{table.digest}; "
            f"{entry.digest} is expected. Restore or remove the copy"
        )
    logger.info(
        "dataset %s: %d rows from the %s, %s, %s",
        entry.name,
        len(table),
        source_kind,
        where,
        table.digest,
    )
    return Loaded(entry, table, source_kind)


def _search(entry: Dataset, settings: Settings) -> tuple[Table, SourceKind, str]:
    if entry.read and settings.data and (path := _mirrored(entry, settings.data)):
        return entry.read(path.read_bytes(), str(path)), SourceKind.MIRROR, str(path)
    reason = f"not in the mirror {settings.data}" if settings.data else "SLIPWAY_DATA is not set"
    if entry.read and entry.url and settings.fetch:
        try:
            return (
                entry.read(_fetched(entry.url, settings.fetch_timeout), entry.url),
                SourceKind.PUBLIC,
                entry.url,
            )
        except Refused as error:
            reason += f", and {entry.url} is not available ({error})"
    if entry.query:
        return entry.query(settings), SourceKind.WAREHOUSE, entry.source
    if entry.make is None:
        raise Unavailable(f"dataset {entry.name} is not available: {reason}")
    return (
        entry.make(),
        SourceKind.GENERATOR if entry.synthetic else SourceKind.PACKAGE,
        entry.source,
    )


def _mirrored(entry: Dataset, folder: Path) -> Path | None:
    return next((path for name in entry.files if (path := folder / name).is_file()), None)


def _fetched(url: str, timeout: float) -> bytes:
    """Download a declared public source. Raises Refused.

    Its host may be private; the hosts that it redirects to must be public.
    """
    content = bytearray()
    for part in download(url, frozenset({read_url(url).host}), timeout):
        content += part
        if len(content) > _LARGEST:
            raise Refused(f"{url} has more than {_LARGEST} bytes")
    return bytes(content)
