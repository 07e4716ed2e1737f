"""The gateway's audit: who moved an alias. An entry and the move are one transaction, as far as
MLflow lets them be.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slipway_jobs import postgresql
from slipway_jobs.errors import Refused
from slipway_jobs.settings import Settings

INSERT = (
    "INSERT INTO audit (subject, request_id, action, thing, detail) VALUES (%s, %s, %s, %s, %s)"
)
SECONDS = 10.0
TYPES = ("user:", "client:")
"""Of subjects, as the gateway gives them; whoever else starts a Job is ``job:`` and a name."""


@contextmanager
def noted(settings: Settings, action: str, thing: str, detail: dict[str, Any]) -> Iterator[None]:
    """Note a change that is made in this block; it is rolled back when the block raises.

    Without ``SLIPWAY_DATABASE_URL`` there is no audit: a promotion by hand, whose record is the
    version's tag alone. Raises Refused when PostgreSQL cannot take the entry.
    """
    if settings.database_url is None:
        yield
        return
    who = settings.who if settings.who.startswith(TYPES) else f"job:{settings.who}"
    values = [who, settings.request_id or str(uuid.uuid4()), action, thing, json.dumps(detail)]
    try:
        connection = postgresql.connect(settings.database_url, statement_seconds=SECONDS)
        connection.execute(INSERT, values)
    except postgresql.Error as error:
        raise Refused(
            f"the audit of {thing} cannot be written, so nothing was moved: {error}"
        ) from error
    with connection:
        yield
