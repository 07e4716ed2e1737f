"""JSON lines as log format, with the ids of the request and of the trace."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the current request; the same one in the gateway, the worker and the predictor."""
trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""W3C Trace Context id, when the request belongs to a trace."""


class JsonLines(logging.Formatter):
    """Formatter of one JSON object a line.

    The fields are ``time`` in UTC, ``level``, ``logger`` and ``message``; and ``requestId``,
    ``traceId`` and ``exception`` if they exist.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "requestId": request_id.get(),
            "traceId": trace_id.get(),
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({name: value for name, value in line.items() if value})


def log_to_stderr() -> None:
    """Log all records from level INFO on to stderr, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
