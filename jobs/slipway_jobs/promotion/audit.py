"""The gateway's audit table: records who moved an alias, in one transaction with the move.

The transaction covers PostgreSQL; MLflow's part is done before the commit.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slipway.errors import Refused

from slipway_jobs import postgresql
from slipway_jobs.settings import Settings, subject_of

INSERT = (
    "INSERT INTO audit (subject, request_id, action, thing, detail) VALUES (%s, %s, %s, %s, %s)"
)
SECONDS = 10.0


@contextmanager
def recorded(settings: Settings, action: str, thing: str, detail: dict[str, Any]) -> Iterator[None]:
    """Record a change that the block makes; the entry is rolled back when the block raises.

    Without ``SLIPWAY_DATABASE_URL`` there is no audit entry, only the version's tag. Raises Refused
    when PostgreSQL cannot store the entry.
    """
    if settings.database_url is None:
        yield
        return
    values = [
        subject_of(settings.user),
        settings.request_id or str(uuid.uuid4()),
        action,
        thing,
        json.dumps(detail),
    ]
    try:
        connection = postgresql.connect(settings.database_url, statement_seconds=SECONDS)
        connection.execute(INSERT, values)
    except postgresql.Error as error:
        raise Refused(
            f"the audit entry of {thing} cannot be written, so nothing was moved: {error}"
        ) from error
    with connection:
        yield
