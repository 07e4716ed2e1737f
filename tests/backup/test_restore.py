"""The chart's backup and restore scripts, on a real PostgreSQL with data of a platform in use."""

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from slipway_gateway.postgresql.migrate import migrate
from slipway_jobs.sales.etl import EtlOptions, etl
from slipway_jobs.settings import Settings

from tests.support.postgresql import PostgresServer, postgresql_server
from tests.support.processes import START_SECONDS

FILES = Path(__file__).parents[2] / "charts" / "slipway" / "files"
DATABASES = ("slipway", "mlflow", "identity")
SALES = "\n".join(
    [
        "date,store,product,units,promotion,price",
        *(f"2026-01-{day:02},Bremen,tea,{day},0,2" for day in range(1, 29)),
    ]
)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with postgresql_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


class Platform:
    """Three databases with owners, artifacts, and the files mounted into the scripts' pods."""

    def __init__(self, folder: Path, server: PostgresServer) -> None:
        self.folder = folder
        self.server = server
        self.artifacts = folder / "mlflow"
        self.settings = folder / "settings"
        with self.superuser() as connection:
            for name in DATABASES:
                connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
                connection.execute(
                    f"CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ENCODING 'UTF8' "
                    "LOCALE 'C'"
                )
                connection.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
                self._write(f"roles/{name}/username", name)
                self._write(f"roles/{name}/password", "x")
                self._write(f"backup/{name}.url", self.url(name, user=None))
            connection.execute("ALTER DATABASE slipway SET search_path = public, warehouse")
        self.act_as("postgres")
        self._use()

    def _write(self, name: str, text: str) -> None:
        path = self.settings / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _use(self) -> None:
        """Run migrations and an ETL, write a large object and artifacts, one of them hidden."""
        migrate(self.url("slipway"))
        (self.folder / "sales.csv").write_text(SALES)
        wanted = Settings(
            MLFLOW_TRACKING_URI="http://127.0.0.1:9",
            database_url=self.url("slipway"),
            data=self.folder,
            fetch=False,
        )
        etl(EtlOptions(self.folder / "sales.csv"), wanted)
        for name in ("mlflow", "identity"):
            self.execute(
                name,
                (
                    "CREATE TABLE runs (id int PRIMARY KEY, name text); INSERT INTO runs VALUES "
                    "(1, 'first')"
                ),
            )
        self.execute("mlflow", "SELECT lo_from_bytea(4711, 'large')")
        for name in ("artifacts/1/model.onnx", ".hidden/x"):
            (self.artifacts / name).parent.mkdir(parents=True, exist_ok=True)
            (self.artifacts / name).write_text(name)
        (self.folder / "backups").mkdir()

    def act_as(self, role: str | None) -> None:
        """Set the role that may create databases; None: only the owners."""
        for name, text in (("username", role), ("password", "x")):
            if role:
                self._write(f"administrator/{name}", str(text))
            else:
                (self.settings / "administrator" / name).unlink()

    def url(self, database: str, *, user: str | None = "") -> str:
        """Return the URL of a database for its owner."""
        whole = self.server.get_uri(database=database)
        query = {"host": whole.partition("host=")[2]}
        login = "" if user is None else f"{user or database}@"
        return f"postgresql://{login}/{database}?{urlencode(query)}"

    def superuser(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.get_uri(), autocommit=True)

    def execute(self, database: str, statement: str) -> None:
        with psycopg.connect(self.url(database)) as connection:
            connection.execute(statement.encode())

    def rows(self, database: str, query: str) -> list[Any]:
        with psycopg.connect(self.url(database)) as connection:
            return connection.execute(query.encode()).fetchall()

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script like the chart's pod."""
        given = {
            "PATH": f"{self.server.bin_path}:{os.environ['PATH']}",
            "BACKUPS": str(self.folder / "backups"),
            "SETTINGS": str(self.settings),
            "ARTIFACTS": str(self.artifacts),
            **environment,
        }
        command = ["bash", "-o", "pipefail", str(FILES / script)]
        return subprocess.run(
            command, env=given, capture_output=True, text=True, check=False, timeout=START_SECONDS
        )

    def backup(self) -> Path:
        done = self.run("backup.sh", KEEP="3")
        assert done.returncode == 0, done.stderr
        return max((self.folder / "backups").iterdir())

    def state(self) -> dict[str, Any]:
        """Return everything that a restore brings back."""
        return {
            "sales": self.rows("slipway", "SELECT * FROM warehouse.sales ORDER BY 1, 2, 3"),
            "features": self.rows("slipway", "SELECT count(*) FROM feature_rows"),
            "grants": self.rows("slipway", "SELECT * FROM grants ORDER BY 1"),
            "runs": [
                self.rows(name, "SELECT * FROM runs ORDER BY 1") for name in ("mlflow", "identity")
            ],
            "large": self.rows("mlflow", "SELECT lo_get(4711)"),
            "files": {
                str(p.relative_to(self.artifacts)): p.read_text()
                for p in self.artifacts.rglob("*")
                if p.is_file()
            },
            "databases": self.databases(),
        }

    def databases(self) -> list[Any]:
        """Return names, owners, locales, privileges and settings of all databases."""
        query = """SELECT datname, pg_get_userbyid(datdba), datcollate, encoding, setconfig,
                   (SELECT array_agg(acl::text ORDER BY acl::text) FROM unnest(datacl) acl)
                     FROM pg_database
                   LEFT JOIN pg_db_role_setting ON setdatabase = pg_database.oid ORDER BY 1"""
        with self.superuser() as connection:
            return connection.execute(query).fetchall()

    def change(self) -> None:
        """Make changes after the backup."""
        self.execute(
            "slipway", "DELETE FROM warehouse.sales; CREATE SCHEMA later; DELETE FROM grants"
        )
        self.execute(
            "mlflow",
            (
                "INSERT INTO runs VALUES (2, 'later'); CREATE TABLE later (x int); SELECT "
                "lo_unlink(4711)"
            ),
        )
        (self.artifacts / "artifacts/1/model.onnx").unlink()
        (self.artifacts / "artifacts/2").mkdir()
        (self.artifacts / "artifacts/2/later").write_text("later")


@pytest.fixture
def platform(tmp_path: Path, postgres: PostgresServer) -> Iterator[Platform]:
    found = Platform(tmp_path, postgres)
    yield found
    with found.superuser() as connection:
        for name in DATABASES:
            connection.execute(f"DROP DATABASE {name}")
            connection.execute(f"DROP ROLE {name}")


@pytest.mark.slow
def test_two_restores_after_an_etl_bring_back_rows_and_artifacts(platform: Platform) -> None:
    before = platform.state()
    assert len(before["sales"]) == 28
    platform.backup()
    for _ in range(2):
        platform.change()
        done = platform.run("restore.sh")
        assert done.returncode == 0, done.stderr
        assert platform.state() == before
        assert platform.rows("mlflow", "SELECT to_regclass('later')") == [(None,)]
        assert platform.rows(
            "slipway", "SELECT count(*) FROM pg_namespace WHERE nspname = 'later'"
        ) == [(0,)]


def truncated(backup: Path) -> None:
    """Truncate the last database's dump within its data; the digests match."""
    dump = backup / "identity.dump"
    dump.write_bytes(dump.read_bytes()[:-40])
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted(backup.iterdir())
    ]
    (backup / "SHA256SUMS").write_text(
        "\n".join(each for each in sums if "SHA256SUMS" not in each) + "\n"
    )


def damaged(backup: Path) -> None:
    """Change a byte of the artifacts."""
    content = bytearray((backup / "artifacts.tar").read_bytes())
    content[-1] ^= 1
    (backup / "artifacts.tar").write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [truncated, damaged])
def test_a_backup_that_cannot_be_restored_changes_nothing(
    platform: Platform, harm: Callable[[Path], None]
) -> None:
    harm(platform.backup())
    platform.change()
    present = platform.databases()
    files = sorted(platform.artifacts.rglob("*"))
    assert platform.run("restore.sh").returncode != 0
    assert platform.databases() == present
    assert platform.rows("mlflow", "SELECT id FROM runs ORDER BY 1") == [(1,), (2,)]
    assert platform.rows("slipway", "SELECT count(*) FROM warehouse.sales") == [(0,)]
    assert sorted(platform.artifacts.rglob("*")) == files


def test_a_restore_fails_while_a_client_is_connected(platform: Platform) -> None:
    platform.backup()
    with psycopg.connect(platform.url("mlflow")):
        done = platform.run("restore.sh")
    assert done.returncode == 1
    assert "someone is connected to mlflow: scale gateway" in done.stderr


@pytest.mark.slow
def test_a_connection_before_the_end_leaves_everything_unchanged(platform: Platform) -> None:
    """Connect after two databases were exchanged; these are exchanged back."""
    platform.backup()
    platform.change()
    over = threading.Event()

    def intrude() -> None:
        with ExitStack() as stack:
            watching = stack.enter_context(platform.superuser())
            seen = False
            while not over.wait(0.005):
                found = watching.execute(
                    "SELECT 1 FROM pg_database WHERE datname = 'identity_restored'"
                ).fetchall()
                if found and not seen:
                    stack.enter_context(psycopg.connect(platform.url("identity")))
                    seen = True

    present = platform.databases()
    intruder = threading.Thread(target=intrude)
    intruder.start()
    try:
        done = platform.run("restore.sh")
    finally:
        over.set()
        intruder.join()
    assert done.returncode != 0
    assert 'database "identity" is being accessed by other users' in done.stderr
    assert platform.databases() == present
    assert platform.rows("mlflow", "SELECT id FROM runs ORDER BY 1") == [(1,), (2,)]
    assert platform.rows("slipway", "SELECT count(*) FROM warehouse.sales") == [(0,)]


def test_without_an_administrator_the_owners_must_be_allowed_to_create_databases(
    platform: Platform,
) -> None:
    """Use the owners' roles, as with an external PostgreSQL."""
    platform.act_as(None)
    before = platform.state()
    platform.backup()
    platform.change()
    done = platform.run("restore.sh")
    assert done.returncode == 1
    assert "no database can be created beside slipway; nothing was changed" in done.stderr
    assert platform.rows("slipway", "SELECT count(*) FROM warehouse.sales") == [(0,)]
    with platform.superuser() as connection:
        for name in DATABASES:
            connection.execute(f"ALTER ROLE {name} CREATEDB")
    done = platform.run("restore.sh")
    assert done.returncode == 0, done.stderr
    assert platform.state() == before


@pytest.mark.slow
def test_leftovers_of_an_interrupted_restore_are_removed(platform: Platform) -> None:
    before = platform.state()
    platform.backup()
    platform.change()
    with platform.superuser() as connection:
        connection.execute("CREATE DATABASE slipway_restored")
        connection.execute("CREATE DATABASE mlflow_replaced")
    for name in (".restored/artifacts", ".replaced/artifacts"):
        (platform.artifacts / name).mkdir(parents=True)
    done = platform.run("restore.sh")
    assert done.returncode == 0, done.stderr
    assert platform.state() == before
    assert {path.name for path in platform.artifacts.iterdir()} == {"artifacts", ".hidden"}
