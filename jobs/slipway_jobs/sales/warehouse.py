"""Adapter of the warehouse: sales in PostgreSQL tables, and the features that are published."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import Connection
from slipway.errors import Refused
from slipway.features import FeatureSet, Row, publish

from slipway_jobs.errors import WarehouseError
from slipway_jobs.postgresql import connect
from slipway_jobs.sales.table import Sale, Sales

logger = logging.getLogger(__name__)

# Each is applied once, in this order; append only.
_MIGRATIONS = (
    """
    CREATE TABLE warehouse.stores (store_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE);
    CREATE TABLE warehouse.products (product_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE);
    CREATE TABLE warehouse.sales (
        store_id int NOT NULL REFERENCES warehouse.stores,
        product_id int NOT NULL REFERENCES warehouse.products,
        day date NOT NULL,
        units double precision CHECK (units >= 0),
        promotion boolean NOT NULL,
        price double precision CHECK (price >= 0),
        loaded timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (store_id, product_id, day)
    );
    CREATE INDEX sales_day ON warehouse.sales (day);
    COMMENT ON COLUMN warehouse.sales.units IS 'null: not known yet; the row is a plan';
    CREATE TABLE warehouse.loads (
        load_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        time timestamptz NOT NULL DEFAULT now(),
        source text NOT NULL,
        synthetic boolean NOT NULL,
        inserted bigint NOT NULL,
        changed bigint NOT NULL,
        unchanged bigint NOT NULL,
        rejected bigint NOT NULL,
        newest date
    );
    CREATE TABLE warehouse.feature_sets (
        name text PRIMARY KEY,
        columns text[] NOT NULL,
        newest date NOT NULL,
        first_day date NOT NULL,
        last_day date NOT NULL,
        computed timestamptz NOT NULL DEFAULT now(),
        synthetic boolean NOT NULL
    );
    COMMENT ON COLUMN warehouse.feature_sets.newest
      IS 'day of the newest fact in the features';
    CREATE TABLE warehouse.features (
        feature_set text NOT NULL REFERENCES warehouse.feature_sets ON DELETE CASCADE,
        day date NOT NULL,
        entity text[] NOT NULL,
        rank int NOT NULL,
        vector real[] NOT NULL,
        PRIMARY KEY (feature_set, day, entity)
    );
    COMMENT ON COLUMN warehouse.features.entity IS 'values of the keys; * stands for any';
    COMMENT ON COLUMN warehouse.features.rank
      IS 'of the matching rows, the smallest is used';
    """,
    # Tables of the gateway took the place of warehouse.features and warehouse.feature_sets, which
    # remain in this release, because the former one reads them after a rollback.
    "SELECT 1",
)
_LOCK = 0x73616C6573
"""Advisory lock of a load; the number is "sales" in ASCII."""

# A row without a quantity is a plan and does not delete a known quantity.
_UPSERT = """
    WITH staged AS (
        SELECT DISTINCT ON (store, product, day) * FROM staging ORDER BY store, product, day, units
          IS NULL, line DESC
    ), written AS (
        INSERT INTO warehouse.sales AS existing (store_id, product_id, day, units, promotion, price)
        SELECT store_id, product_id, day, units, promotion, price FROM staged
        JOIN warehouse.stores ON stores.name = store
          JOIN warehouse.products ON products.name = product
        ON CONFLICT (store_id, product_id, day) DO UPDATE SET
            units = coalesce(excluded.units, existing.units), promotion = excluded.promotion,
            price = excluded.price, loaded = now()
        WHERE (existing.units, existing.promotion, existing.price)
            IS DISTINCT
              FROM (coalesce(excluded.units, existing.units), excluded.promotion, excluded.price)
        RETURNING xmax = 0 AS inserted
    )
    SELECT (SELECT count(*) FROM staged), count(*) FILTER (WHERE inserted), count(*)
      FILTER (WHERE NOT inserted) FROM written
"""
_SALES = """
    SELECT stores.name, products.name, day, units, promotion, price FROM warehouse.sales
    JOIN warehouse.stores USING (store_id) JOIN warehouse.products USING (product_id)
      WHERE day >= %s AND day <= %s
"""


@dataclass(frozen=True)
class Written:
    """Counts of the rows of a load."""

    inserted: int
    changed: int
    unchanged: int


class Warehouse:
    """The warehouse within one transaction, which stores everything or nothing."""

    def __init__(self, connection: Connection[tuple[object, ...]]) -> None:
        self._connection = connection

    def prepare(self) -> None:
        """Create missing tables, and wait for a running load."""
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        # IF NOT EXISTS requires the right to create, even when the schema exists.
        if self._connection.execute("SELECT to_regnamespace('warehouse')").fetchone() == (None,):
            self._connection.execute("CREATE SCHEMA warehouse")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS warehouse.migrations (number int PRIMARY KEY, "
            "applied timestamptz)"
        )
        done = {
            row[0] for row in self._connection.execute("SELECT number FROM warehouse.migrations")
        }
        for number, statements in enumerate(_MIGRATIONS, start=1):
            if number not in done:
                self._connection.execute(statements.encode())
                self._connection.execute(
                    "INSERT INTO warehouse.migrations VALUES (%s, now())", [number]
                )

    def clear(self) -> None:
        """Delete all sales."""
        self._connection.execute("TRUNCATE warehouse.sales, warehouse.stores, warehouse.products")

    def is_synthetic(self) -> bool | None:
        """Return whether its sales are generated; None when there are none."""
        found = self._connection.execute(
            "SELECT synthetic FROM warehouse.loads WHERE EXISTS (SELECT FROM "
            "warehouse.sales) ORDER BY load_id DESC LIMIT 1"
        ).fetchone()
        return None if found is None else bool(found[0])

    def stage(self, rows: Iterable[Sale]) -> int:
        """Copy the rows one by one into a temporary table; return their number."""
        self._connection.execute(
            "CREATE TEMPORARY TABLE staging (line bigint, day date, store text, product text,"
            " units double precision, promotion boolean, price double precision) ON COMMIT DROP"
        )
        count = 0
        with self._connection.cursor() as cursor, cursor.copy("COPY staging FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
                count += 1
        return count

    def write(self) -> Written:
        """Insert or update the staged rows; of rows with the same key the last one counts."""
        for kind in ("store", "product"):
            self._connection.execute(
                f"INSERT INTO warehouse.{kind}s (name) SELECT DISTINCT {kind} FROM staging "  # noqa: S608
                "ORDER BY 1 ON CONFLICT DO NOTHING"
            )
        staged, inserted, changed = (
            int(str(count)) for count in self._connection.execute(_UPSERT).fetchone() or ()
        )
        return Written(inserted, changed, staged - inserted - changed)

    def record(
        self, source: str, synthetic: bool, written: Written, rejected: int, newest: date | None
    ) -> None:
        """Record a load."""
        self._connection.execute(
            "INSERT INTO warehouse.loads (source, synthetic, inserted, changed, unchanged, "
            "rejected, newest)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                source,
                synthetic,
                written.inserted,
                written.changed,
                written.unchanged,
                rejected,
                newest,
            ],
        )

    def newest(self) -> date | None:
        """Return the last day with a known quantity."""
        found = self._connection.execute(
            "SELECT max(day) FROM warehouse.sales WHERE units IS NOT NULL"
        ).fetchone()
        return found[0] if found else None  # type: ignore[return-value]

    def sales(self, since: date = date.min, until: date = date.max) -> Sales:
        """Return the sales of these days, both included."""
        with self._connection.cursor(name="sales") as cursor:
            cursor.itersize = 10_000
            return Sales.of(cursor.execute(_SALES, [since, until]))  # type: ignore[arg-type]

    def publish(self, declared: FeatureSet, rows: Iterable[Row]) -> int:
        """Replace a feature set; return the number of its rows. Raises Refused."""
        return publish(self._connection, declared, rows)


@contextmanager
def warehouse(url: str) -> Iterator[Warehouse]:
    """Open a transaction; it is committed after the block, or rolled back when it raises.

    Raises WarehouseError; Refused for a row that violates a table's constraints.
    """
    try:
        with connect(url) as connection:
            yield Warehouse(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        hint = (
            "give the role the right CREATE on the database, or make it the owner of a schema "
            "warehouse"
        )
        raise WarehouseError(f"the warehouse cannot be created: {error}; {hint}") from error
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise Refused(f"the warehouse rejects a row: {error}") from error
    except psycopg.errors.UndefinedTable as error:
        raise WarehouseError(
            "the warehouse does not exist; run: python -m slipway_jobs etl"
        ) from error
    except psycopg.Error as error:
        raise WarehouseError(
            f"the warehouse cannot be read or written: {error}; check SLIPWAY_DATABASE_URL"
        ) from error
