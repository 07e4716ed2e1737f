"""Fetch datasets, validate them, and keep them by their digest: what a training does with its own,
for any of the catalogue.
"""

from collections.abc import Mapping
from typing import Any

from slipway_jobs.datasets.dataset_store import keep
from slipway_jobs.datasets.sources import DATASETS, find
from slipway_jobs.errors import Unavailable, WrongParameter
from slipway_jobs.registry.tracking import Tracking
from slipway_jobs.settings import Settings


def store(name: str, settings: Settings, tracking: Tracking) -> dict[str, Any]:
    """The result as JSON; ``state`` is stored, or unchanged when the store has that table.

    Raises WrongParameter, Unavailable, CorruptTable, WrongDigest.
    """
    if name not in DATASETS:
        raise WrongParameter(f"dataset: {name!r} is unknown; there are {', '.join(DATASETS)}")
    loaded = find(DATASETS[name], settings)
    stored = keep(loaded, tracking)
    return {
        "state": "stored" if stored.new else "unchanged",
        "dataset": name,
        "rows": len(loaded.table),
        "digest": loaded.table.digest,
        "place": loaded.place,
        "synthetic": loaded.entry.synthetic,
        "licence": loaded.entry.licence,
        "runId": stored.run_id,
    }


def store_all(settings: Settings, tracking: Tracking) -> dict[str, Any]:
    """Each of the catalogue; those that cannot be had from here are named with the reason. Raises
    CorruptTable, WrongDigest.
    """
    found = [_stored_or_why_not(name, settings, tracking) for name in DATASETS]
    return {
        "state": "stored" if any(each["state"] == "stored" for each in found) else "unchanged",
        "datasets": found,
    }


def _stored_or_why_not(name: str, settings: Settings, tracking: Tracking) -> Mapping[str, Any]:
    try:
        return store(name, settings, tracking)
    except Unavailable as error:
        return {"state": "unavailable", "dataset": name, "reason": str(error)}
