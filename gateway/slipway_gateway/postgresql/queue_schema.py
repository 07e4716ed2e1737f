"""The queue's own tables: made by procrastinate's script, brought up to date by its migrations,
each applied once.
"""

from importlib import resources

from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text

APPLIED = "queue_schema"
"""Table of the names of the migrations that are in."""


def upgrade(connection: Connection) -> None:
    """Within the caller's transaction, and its lock."""
    names = _migrations()
    made = connection.execute(
        text("SELECT to_regclass('procrastinate_jobs') IS NOT NULL")
    ).scalar_one()
    known = set(connection.execute(text(f"SELECT name FROM {APPLIED}")).scalars())  # noqa: S608  (a name of our own)
    if not made:
        _run(connection, SchemaManager.get_schema())  # it has all of them
    else:
        for name in names:
            if name not in known:
                _run(
                    connection,
                    (resources.files("procrastinate.sql") / "migrations" / name).read_text(
                        encoding="utf-8"
                    ),
                )
    for name in names:
        if name not in known:
            connection.execute(text(f"INSERT INTO {APPLIED} (name) VALUES (:name)"), {"name": name})  # noqa: S608


def _migrations() -> list[str]:
    folder = resources.files("procrastinate.sql") / "migrations"
    return sorted(each.name for each in folder.iterdir() if each.name.endswith(".sql"))


def _run(connection: Connection, script: str) -> None:
    """Several statements with per cent signs of their own: SQLAlchemy would take them for
    parameters.
    """
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection is closed")
    driver.execute(script)
