"""Connection parameters of gateway, worker and Jobs, with which a lost server is an error.

A server that is lost with its node sends nothing any more, and TCP alone waits for hours.
Keepalives detect a dead peer of an idle connection, ``tcp_user_timeout`` one of a connection with
data in flight, and ``statement_timeout`` ends a slow statement in the server. None of them helps
against a frozen server: its kernel still acknowledges. So a client also needs its own deadline, see
``client_seconds``.
"""

import os
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

CONNECT_SECONDS = 5
CLIENT_MARGIN_SECONDS = 5.0


def client_seconds(statement_seconds: float) -> float:
    """Return the time that a client waits for the end of a statement.

    It is longer than ``statement_timeout``, so that a server that responds ends the statement
    itself.
    """
    return statement_seconds + min(statement_seconds, CLIENT_MARGIN_SECONDS)


def connection_parameters(
    url: str,
    *,
    statement_seconds: float | None = None,
    transaction_idle_seconds: float | None = None,
) -> dict[str, str | int]:
    """Return libpq parameters for a connection to ``url``; parameters of the URL take precedence.

    ``statement_seconds`` bounds each statement, and ``transaction_idle_seconds`` the time for which
    a transaction may hold its locks without a statement; None: no bound. Options of the URL, or
    else of ``PGOPTIONS``, are added and take precedence.
    """
    given = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    defaults: dict[str, str | int] = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    # The server detects a lost client in the same way; otherwise that client's locks stay for
    # two hours.
    settings = {
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }
    if statement_seconds is not None:
        settings["statement_timeout"] = str(round(statement_seconds * 1000))
    if transaction_idle_seconds is not None:
        settings["idle_in_transaction_session_timeout"] = str(
            round(transaction_idle_seconds * 1000)
        )
    options = [f"-c {name}={value}" for name, value in settings.items()]
    options.append(given.get("options") or os.environ.get("PGOPTIONS", ""))
    return {name: value for name, value in defaults.items() if name not in given} | {
        "options": " ".join(options).strip()
    }


LIBPQ_PREFIXES = ("PG", "SSL_CERT_", "KRB5")
LIBPQ_NAMES = ("HOME", "LD_LIBRARY_PATH", "TZ")


def libpq_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a subprocess needs to connect like this process, and no others.

    These are libpq's own (``PGUSER``, ``PGPASSWORD``, ``PGSSLROOTCERT`` …), those of the TLS and
    Kerberos libraries, and ``HOME``, where libpq finds ``.pgpass`` and ``.postgresql``. A URL of
    the chart has neither user nor password.
    """
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(LIBPQ_PREFIXES) or name in LIBPQ_NAMES
    }
