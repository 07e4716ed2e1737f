"""Events of objects, which ``kubectl describe`` shows."""

import hashlib
from datetime import datetime

from slipway_contract.labels import FIELD_MANAGER

from slipway_cluster.clock import stamp
from slipway_cluster.interface import EVENT, Manifest

KEPT_SECONDS = 3600
"""Default time for which an API server stores an Event."""

_LONGEST_MESSAGE = 1024
"""Characters; the newer Events API rejects longer notes."""


def event_on(
    about: Manifest, reason: str, message: str, *, warning: bool, now: datetime
) -> Manifest:
    """Return the Event. Its name is a hash of its content; a repetition has the same name."""
    metadata = about["metadata"]
    kind = "Warning" if warning else "Normal"
    message = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"
    content = "\n".join((metadata.get("uid", ""), kind, reason, message))
    involved = {"apiVersion": about["apiVersion"], "kind": about["kind"]}
    involved |= {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata}
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(content.encode()).hexdigest()[:16]}"
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
    """Return the last occurrence; the two Events APIs have different fields for it."""
    series = event.get("series") or {}
    found = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(found or event["metadata"].get("creationTimestamp", ""))
