"""Adapter of the event log in PostgreSQL: answered prediction requests."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg

from slipway_jobs.errors import EventLogError
from slipway_jobs.postgresql import connect

logger = logging.getLogger(__name__)

# The newest first, so that a limit drops the oldest. Rejected requests did not reach the model.
_REQUESTS = """
    SELECT request FROM prediction_events
    WHERE model = %s AND time >= %s AND time < %s AND status BETWEEN 200 AND 299
    ORDER BY time DESC LIMIT %s
"""


@contextmanager
def requests(
    url: str, model: str, since: datetime, until: datetime, limit: int
) -> Iterator[Iterator[str | None]]:
    """Yield the bodies of the model's answered requests, V2 JSON, at most the newest ``limit``.

    A body is None where the log did not store it. Rows are streamed, so memory does not grow with
    the window. Raises EventLogError.
    """
    try:
        with connect(url) as connection, connection.cursor(name="requests") as cursor:
            cursor.itersize = 1000
            cursor.execute(_REQUESTS, (model, since, until, limit))
            yield (row[0] for row in cursor)
    except psycopg.errors.UndefinedTable as error:
        raise EventLogError(
            "the event log has no table prediction_events yet; run: python -m "
            "slipway_gateway migrate"
        ) from error
    except psycopg.Error as error:
        raise EventLogError(
            f"the event log cannot be read: {error}; check SLIPWAY_DATABASE_URL"
        ) from error
