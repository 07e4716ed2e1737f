"""The tables of procrastinate: its schema script, and its migrations, each applied once."""

from importlib import resources

from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text

APPLIED = "queue_schema"
"""Table with the names of the applied migrations."""


def upgrade(connection: Connection) -> None:
    """Create or upgrade the tables within the caller's transaction and lock."""
    exists = text("SELECT to_regclass('procrastinate_jobs') IS NOT NULL")
    is_new = not connection.execute(exists).scalar_one()
    applied = set(connection.execute(text(f"SELECT name FROM {APPLIED}")).scalars())  # noqa: S608  (a name of our own)
    if is_new:
        _run(connection, SchemaManager.get_schema())  # it includes all migrations
    folder = resources.files("procrastinate.sql") / "migrations"
    for name in sorted(each.name for each in folder.iterdir() if each.name.endswith(".sql")):
        if name not in applied:
            if not is_new:
                _run(connection, (folder / name).read_text(encoding="utf-8"))
            connection.execute(text(f"INSERT INTO {APPLIED} (name) VALUES (:name)"), {"name": name})  # noqa: S608


def _run(connection: Connection, script: str) -> None:
    """Run a script with the driver, because SQLAlchemy would treat its % signs as parameters."""
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection is closed")
    driver.execute(script)
