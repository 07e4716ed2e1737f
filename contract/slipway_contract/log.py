"""JSON lines as log format, with the ids of the request and of the trace."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted

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
        # All values are text; json.dumps would create an encoder for each line.
        return "{" + ", ".join([f'"{k}": {quoted(v)}' for k, v in line.items() if v]) + "}"


def log_to_stderr() -> None:
    """Log all records from level INFO on to stderr, one line each.

    Records get no source line, thread and process, which ``JsonLines`` does not use: see
    "Optimization" in Python's logging HOWTO.
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
