"""Publishing of feature sets: values that the gateway looks up in place of a caller's inputs.

A Job computes the values and calls ``publish`` with an open psycopg connection::

    with psycopg.connect(os.environ["SLIPWAY_DATABASE_URL"]) as connection:
        publish(
            connection,
            FeatureSet(
                name="customers-1",
                owner="crm",
                keys=(FeatureKey(name="customer", type=KeyType.INTEGER),),
                columns=(FeatureColumn(name="orders"), FeatureColumn(name="tier")),
                newest=date(2026, 3, 29),
            ),
            [((17,), (4.0, 2.0)), (("*",), (0.0, 0.0))],
        )

docs/how-to/features.md describes the same in SQL.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from slipway_contract.errors import InvalidInput
from slipway_contract.features import ANY as ANY
from slipway_contract.features import FeatureColumn as FeatureColumn
from slipway_contract.features import FeatureKey as FeatureKey
from slipway_contract.features import FeatureSet as FeatureSet
from slipway_contract.features import KeyType as KeyType
from slipway_contract.signature import Lookup as Lookup

from slipway.errors import Refused, SlipwayError

if TYPE_CHECKING:
    import psycopg

Row = tuple[Sequence[Any], Sequence[Any]]
"""The values of the keys and those of the columns, each in the order of the declaration."""

# The owner stays: another owner's Job must not replace the features of a served model by mistake.
_DECLARE = """
    INSERT INTO feature_sets AS known (name, description, owner, keys, columns, newest,
      max_age_seconds, time_zone, synthetic, models, computed)
    VALUES (%(name)s, %(description)s, %(owner)s, %(keys)s, %(columns)s, %(newest)s,
      %(max_age_seconds)s, %(time_zone)s, %(synthetic)s, %(models)s, now())
    ON CONFLICT (name) DO UPDATE SET description = excluded.description, keys = excluded.keys,
      columns = excluded.columns, newest = excluded.newest,
      max_age_seconds = excluded.max_age_seconds, time_zone = excluded.time_zone,
      synthetic = excluded.synthetic, models = excluded.models, computed = excluded.computed
    WHERE known.owner = excluded.owner
"""
_KEYS = """
    INSERT INTO feature_keys (feature_set, key, value)
    SELECT DISTINCT feature_set, %s, key[%s] FROM feature_rows
    WHERE feature_set = %s AND key[%s] <> '*'
"""


def publish(
    connection: "psycopg.Connection[Any]", declared: FeatureSet, rows: Iterable[Row]
) -> int:
    """Replace a feature set and its rows in the transaction of ``connection``; return their number.

    The caller commits; until then the gateway reads the previous rows. A key may be ``*``, for
    values that have no row. Raises Refused for a row that the declaration does not allow, for two
    rows with one key, and for a feature set of another owner; then roll the transaction back.
    Raises SlipwayError when the database has no such tables.
    """
    if connection.execute("SELECT to_regclass('feature_keys')").fetchone() == (None,):
        raise SlipwayError(
            "the database has no table feature_keys yet; run: python -m slipway_gateway migrate"
        )
    content = declared.model_dump(mode="json")
    given = {**content, "keys": json.dumps(content["keys"])}
    given |= {name: json.dumps(content[name]) for name in ("columns", "models")}
    if connection.execute(_DECLARE, given).rowcount == 0:
        raise Refused(
            f'feature set "{declared.name}" has another owner than "{declared.owner}"; choose '
            "another name, or change the column owner of the table feature_sets"
        )
    for table in ("feature_rows", "feature_keys"):
        connection.execute(f"DELETE FROM {table} WHERE feature_set = %s", [declared.name])  # noqa: S608
    count, seen = 0, set()
    statement = "COPY feature_rows (feature_set, key, vector) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for number, row in enumerate(rows, start=1):
            try:
                key, vector = _stored(declared, row)
            except InvalidInput as error:
                raise Refused(f'feature set "{declared.name}", row {number}: {error}') from None
            if key in seen:
                raise Refused(
                    f'feature set "{declared.name}", row {number}: a row before it has the key '
                    f"{', '.join(key)}"
                )
            seen.add(key)
            copy.write_row((declared.name, list(key), json.dumps(vector)))
            count += 1
    for position, each in enumerate(declared.keys, start=1):
        connection.execute(_KEYS, [each.name, position, declared.name, position])
    return count


def _stored(declared: FeatureSet, row: Row) -> tuple[tuple[str, ...], list[Any]]:
    """Return a row as it is stored. Raises InvalidInput."""
    key, values = declared.stored_key([_plain(value) for value in row[0]]), row[1]
    if len(values) != len(declared.columns):
        raise InvalidInput("values", f"{len(values)} are given for {len(declared.columns)} columns")
    return key, [
        column.value(_plain(value)) for column, value in zip(declared.columns, values, strict=True)
    ]


def _plain(value: Any) -> Any:
    """Return a value of Python; NumPy's scalars have the method ``item``."""
    return value.item() if hasattr(value, "item") else value
