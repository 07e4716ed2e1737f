"""``python -m slipway_gateway migrate|serve|work``."""

import argparse
import logging
import sys

from pydantic import ValidationError
from slipway_cluster import connect
from slipway_contract.log import log_to_stderr
from sqlalchemy.exc import OperationalError

from slipway_gateway.server import serve
from slipway_gateway.settings import Settings
from slipway_gateway.worker import work


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 2 for invalid settings, 1 without a database."""
    parser = argparse.ArgumentParser(
        prog="slipway_gateway", description="API gateway of the Slipway platform"
    )
    parser.add_argument(
        "command",
        choices=("migrate", "serve", "work"),
        help="migrate the database, serve requests, or execute tasks",
    )
    command = parser.parse_args(arguments).command
    log_to_stderr()
    try:
        settings = Settings()
    except ValidationError as error:
        for finding in error.errors():
            name = "_".join(map(str, finding["loc"])).upper()
            logging.error("SLIPWAY_%s: %s", name, finding["msg"])  # noqa: LOG015, TRY400
        return 2
    if command == "serve":
        serve(settings, connect(settings.cluster))
        return 0
    if command == "work":
        work(settings, connect(settings.cluster))
        return 0
    # Alembic needs 9 MiB of memory, so only this command imports it.
    from slipway_gateway.postgresql.migrate import migrate

    try:
        migrate(settings.database_url.get_secret_value())
    except OperationalError as error:
        logging.error("PostgreSQL cannot be reached: %s", error.orig)  # noqa: LOG015, TRY400
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
