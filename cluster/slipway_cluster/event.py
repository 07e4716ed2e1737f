"""Events: what a controller did or saw, in the form that ``kubectl describe`` shows below an
object.
"""

import hashlib
from datetime import datetime

from slipway_contract.labels import FIELD_MANAGER

from slipway_cluster.clock import stamp
from slipway_cluster.interface import EVENT, Manifest

KEPT_SECONDS = 3600
"""How long an API server keeps an Event, unless told otherwise."""

_LONGEST_MESSAGE = 1024
"""Characters; longer notes are refused by the newer Events API."""


def event_on(
    about: Manifest, reason: str, message: str, *, warning: bool, now: datetime
) -> Manifest:
    """The Event. Its name follows from what it says, so that the same one again is found by its
    name.
    """
    metadata = about["metadata"]
    kind = "Warning" if warning else "Normal"
    message = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"
    said = "\n".join((metadata.get("uid", ""), kind, reason, message))
    involved = {"apiVersion": about["apiVersion"], "kind": about["kind"]}
    involved |= {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata}
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
        },
        "involvedObject": involved,
        "type": kind,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": stamp(now),
        "lastTimestamp": stamp(now),
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "reportingInstance": "",
    }


def last_seen(event: Manifest) -> str:
    """When it last happened; the newer Events API has other fields for it than the older."""
    series = event.get("series") or {}
    found = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(found or event["metadata"].get("creationTimestamp", ""))
