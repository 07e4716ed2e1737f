"""What a line in a server's log is: one JSON object, with the id of the request and of the trace
that it belongs to.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being answered; the same word in the gateway, the worker and the
predictor.
"""
trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""Of W3C Trace Context, when the request belongs to a trace."""


class JsonLines(logging.Formatter):
    """``time`` in UTC, ``level``, ``logger`` and ``message``; ``requestId``, ``traceId``,
    ``exception`` if there are any.
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
    """For a process that serves: everything from level INFO on, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
