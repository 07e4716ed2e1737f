"""Kubernetes objects in an SQLite file that several processes share."""

import fcntl
import json
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slipway_cluster.clock import stamp, utc_now
from slipway_cluster.interface import Kind, Manifest

POLL_SECONDS = 0.05
"""Interval of reads of the file's data version, which are reads of shared memory, not queries."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- orders objects of the same second by age
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    applied TEXT NOT NULL,  -- fields that Slipway's field manager set last
    UNIQUE (kind, name)
);
CREATE TABLE IF NOT EXISTS revision (id INTEGER PRIMARY KEY CHECK (id = 0), value INTEGER NOT NULL);
INSERT OR IGNORE INTO revision VALUES (0, 0);
"""


_NO_OWNER_EXISTS = (
    "NOT EXISTS (SELECT 1 FROM json_each(objects.body, '$.metadata.ownerReferences')"
    " JOIN objects AS owner ON owner.uid = json_extract(value, '$.uid'))"
)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


class Store:
    """Objects by kind and name; safe for threads and processes. Every write is one transaction."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.RLock()
        # SQLite does not wait for the lock when two processes turn WAL on at the same moment.
        with path.with_suffix(".lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            self._connection = _connect(path)
            self._connection.executescript(_SCHEMA)
        # From Python 3.13 on, collecting an open connection warns: an unclosed store closes it.
        self._closing = weakref.finalize(self, self._connection.close)

    def close(self) -> None:
        """Close the connection. A second call does nothing."""
        with self._lock:
            self._closing()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Execute all reads and writes inside atomically. Not reentrant."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def get(self, kind: Kind, name: str) -> Manifest | None:
        rows = self._rows("SELECT body FROM objects WHERE kind = ? AND name = ?", kind.name, name)
        return _object(rows[0][0]) if rows else None

    def applied(self, kind: Kind, name: str) -> Manifest:
        """Return the fields that Slipway's field manager set last; empty when it set none."""
        rows = self._rows(
            "SELECT applied FROM objects WHERE kind = ? AND name = ?", kind.name, name
        )
        return _object(rows[0][0]) if rows else {}

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Return the objects with all the labels, sorted by name."""
        rows = self._rows("SELECT body FROM objects WHERE kind = ? ORDER BY name", kind.name)
        return [body for (text,) in rows if _has_labels(body := _object(text), labels or {})]

    def owned(self, kind: Kind, owner_uid: str) -> Sequence[Manifest]:
        """Return the objects with the owner in their ownerReferences, the oldest first."""
        rows = self._rows(
            "SELECT body FROM objects WHERE kind = ? AND EXISTS (SELECT 1 FROM "
            "json_each(body, '$.metadata.ownerReferences')"
            " WHERE json_extract(value, '$.uid') = ?) ORDER BY id",
            kind.name,
            owner_uid,
        )
        return [_object(text) for (text,) in rows]

    def insert(self, manifest: Manifest, applied: Mapping[str, Any]) -> Manifest:
        """Write a new object with uid, creation time, generation 1; within a transaction."""
        fresh = {
            "uid": str(uuid.uuid4()),
            "creationTimestamp": stamp(utc_now()),
            "generation": 1,
            "resourceVersion": self._next_revision(),
        }
        body = {**manifest, "metadata": {**manifest["metadata"], **fresh}}
        self._connection.execute(
            "INSERT INTO objects (kind, name, uid, body, applied) VALUES (?, ?, ?, ?, ?)",
            (
                body["kind"],
                body["metadata"]["name"],
                fresh["uid"],
                json.dumps(body),
                json.dumps(applied),
            ),
        )
        return body

    def replace(
        self, old: Manifest, new: Manifest, applied: Mapping[str, Any] | None = None
    ) -> Manifest:
        """Write a changed object, within a transaction.

        The resource version increases only if the object changed, the generation only if more than
        its metadata and status did.
        """
        uid = old["metadata"]["uid"]
        if applied is not None:
            self._connection.execute(
                "UPDATE objects SET applied = ? WHERE uid = ?", (json.dumps(applied), uid)
            )
        if new == old:
            return old
        changed = _content(new) != _content(old)
        generation = old["metadata"]["generation"] + (1 if changed else 0)
        body = {
            **new,
            "metadata": {
                **new["metadata"],
                "generation": generation,
                "resourceVersion": self._next_revision(),
            },
        }
        self._connection.execute(
            "UPDATE objects SET body = ? WHERE uid = ?", (json.dumps(body), uid)
        )
        return body

    def remove_orphans(self) -> None:
        """Delete the objects whose owners do not exist, as the garbage collector of Kubernetes.

        A controller that has read an owner before its deletion may create an object of it later.
        """
        orphans = (
            "SELECT uid FROM objects WHERE "  # noqa: S608  (a constant)
            f"json_array_length(body, '$.metadata.ownerReferences') > 0 AND {_NO_OWNER_EXISTS}"
        )
        if self._rows(orphans):
            with self.transaction():
                for (uid,) in self._rows(orphans):
                    self.remove(uid)

    def remove(self, uid: str) -> None:
        """Delete the object and everything that it alone owns; within a transaction."""
        self._connection.execute("DELETE FROM objects WHERE uid = ?", (uid,))
        dependants = self._rows(
            "SELECT uid FROM objects WHERE EXISTS (SELECT 1 FROM json_each(body, "  # noqa: S608
            "'$.metadata.ownerReferences')"
            f" WHERE json_extract(value, '$.uid') = ?) AND {_NO_OWNER_EXISTS}",
            uid,
        )
        for (dependant,) in dependants:
            self.remove(dependant)

    def _next_revision(self) -> str:
        ((value,),) = self._rows("UPDATE revision SET value = value + 1 RETURNING value")
        return str(value)

    def _rows(self, statement: str, *values: str) -> Sequence[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


class Changes:
    """Detects writes of other connections to the store. Not thread-safe."""

    def __init__(self, store: Store) -> None:
        # The data version of a connection changes with the writes of all others: it needs one that
        # never writes.
        self._connection = _connect(store.path)
        self._seen = self._version()

    def wait(self, timeout: float, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Return True after a write since the last call, False after a timeout or when stopped."""
        deadline = time.monotonic() + timeout
        while (version := self._version()) == self._seen:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or stopped():
                return False
            time.sleep(min(POLL_SECONDS, remaining))
        self._seen = version
        return True

    def close(self) -> None:
        self._connection.close()

    def _version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version


def _object(text: str) -> Manifest:
    manifest: Manifest = json.loads(text)
    return manifest


def _has_labels(manifest: Manifest, labels: Mapping[str, str]) -> bool:
    present: Mapping[str, str] = manifest["metadata"].get("labels", {})
    return labels.items() <= present.items()


def _content(manifest: Manifest) -> Manifest:
    return {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
