"""The Job ``dataset``: loads declared datasets and stores their tables."""

from collections.abc import Mapping
from typing import Any

from slipway.errors import NotLoadable, Unavailable
from slipway.registry.tracking import Tracking
from slipway.training.installed import dataset_names, declared_dataset

from slipway_jobs.datasets.dataset_store import store_table
from slipway_jobs.datasets.sources import find
from slipway_jobs.settings import Settings


def store(name: str, settings: Settings, tracking: Tracking) -> dict[str, Any]:
    """Store a dataset and return the result as JSON.

    ``state`` is stored, or unchanged when the store has that table. Raises WrongParameter,
    Unavailable, CorruptTable, WrongDigest.
    """
    loaded = find(declared_dataset(name), settings)
    stored = store_table(loaded, tracking)
    return {
        "state": "stored" if stored.new else "unchanged",
        "dataset": name,
        "rows": len(loaded.table),
        "digest": loaded.table.digest,
        "sourceKind": loaded.source_kind,
        "synthetic": loaded.entry.synthetic,
        "licence": loaded.entry.licence,
        "runId": stored.run_id,
    }


def store_all(settings: Settings, tracking: Tracking) -> dict[str, Any]:
    """Store all declared datasets; unavailable ones are listed with the reason.

    Raises CorruptTable, WrongDigest.
    """
    found = [_stored_or_reason(name, settings, tracking) for name in dataset_names()]
    return {
        "state": "stored" if any(each["state"] == "stored" for each in found) else "unchanged",
        "datasets": found,
    }


def _stored_or_reason(name: str, settings: Settings, tracking: Tracking) -> Mapping[str, Any]:
    try:
        return store(name, settings, tracking)
    except (NotLoadable, Unavailable) as error:
        return {"state": "unavailable", "dataset": name, "reason": str(error)}
