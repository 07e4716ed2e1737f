"""The SQLite file of the local cluster."""

import gc
import sqlite3
from pathlib import Path

import pytest
from slipway_local.standin.store import Store


def test_a_store_closes_its_connection_when_it_is_collected(tmp_path: Path) -> None:
    store = Store(tmp_path / "cluster.db")
    connection = store._connection
    del store
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_store_can_be_closed_twice(tmp_path: Path) -> None:
    store = Store(tmp_path / "cluster.db")
    store.close()
    store.close()
