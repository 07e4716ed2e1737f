"""Errors with their HTTP statuses, and their error responses under ``/v1`` and ``/v2``."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from slipway_contract.errors import InvalidInput, MalformedRequest, TooManyValues
from starlette.exceptions import HTTPException

Headers = list[tuple[bytes, bytes]]

PROBLEM = b"application/problem+json"
JSON = b"application/json"


class GatewayError(Exception):
    """An error response. Its text is sent to the caller and contains no internal details."""

    status = 500
    limit: str | None = None
    """Name of the exceeded limit in metrics; None for other errors."""

    def __init__(self, detail: str, headers: Headers | None = None) -> None:
        super().__init__(detail)
        self.headers: Headers = headers or []


class BadRequest(GatewayError):
    """The request is not valid HTTP."""

    status = 400


class Unauthenticated(GatewayError):
    """The token is missing or invalid, see ``WWW-Authenticate`` (RFC 6750, section 3)."""

    status = 401

    def __init__(self, detail: str) -> None:
        # A quoted-string (RFC 9110) contains no quotes or control characters, and the reason may
        # contain text of the token.
        reason = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in detail)
        challenge = f'Bearer realm="slipway", error="invalid_token", error_description="{reason}"'
        super().__init__(detail, [(b"www-authenticate", challenge.encode("ascii"))])


class Forbidden(GatewayError):
    """The authenticated caller lacks a permission."""

    status = 403

    def __init__(self, detail: str) -> None:
        super().__init__(
            detail, [(b"www-authenticate", b'Bearer realm="slipway", error="insufficient_scope"')]
        )


class NotFound(GatewayError):
    """The resource does not exist or belongs to another caller."""

    status = 404


class MethodNotAllowed(GatewayError):
    """The path has other methods."""

    status = 405

    def __init__(self, method: str, allowed: list[str]) -> None:
        header = ", ".join([*allowed, *(["HEAD"] if "GET" in allowed else [])])
        super().__init__(
            f"{method} is not allowed here; use {', '.join(allowed)}",
            [(b"allow", header.encode())],
        )


class TooSlow(GatewayError):
    """The caller did not send the request within the time limit."""

    status = 408
    limit = "time"


class Conflict(GatewayError):
    """The request conflicts with the state of the resource."""

    status = 409


class PreconditionFailed(GatewayError):
    """The state of the resource is not that of ``If-Match`` or ``If-None-Match``."""

    status = 412


class KeyReused(InvalidInput):
    """The Idempotency-Key belongs to a different request."""

    def __init__(self) -> None:
        super().__init__("Idempotency-Key", "was used for a different request; send another key")


class TooLarge(GatewayError):
    """The body exceeds the limit."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes; send it in parts")


class ImageTooLarge(GatewayError):
    """An image file exceeds the limit."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"an image is larger than {limit} bytes; send a smaller file")


class UnsupportedType(GatewayError):
    """The content type or content coding of the body is not supported."""

    status = 415


class TooMany(GatewayError):
    """A rate limit or quota is exceeded; ``seconds`` is the value of ``Retry-After``."""

    status = 429
    limit = "rate"

    def __init__(self, detail: str, seconds: int, fields: Headers) -> None:
        super().__init__(detail, [(b"retry-after", str(seconds).encode()), *fields])


class TooManyAtOnce(GatewayError):
    """The caller exceeds a limit on concurrent use."""

    status = 429

    def __init__(self, limit: str, detail: str) -> None:
        super().__init__(detail, [(b"retry-after", b"1")])
        self.limit = limit


class HeadTooLarge(GatewayError):
    """The head or the trailers of the request exceed the limit."""

    status = 431
    limit = "head"

    def __init__(self, size: int, count: int, part: str = "headers") -> None:
        hint = "; a token with many groups can be the reason" if part == "headers" else ""
        super().__init__(f"the {part} are more than {count} or longer than {size} bytes{hint}")


class TooManyTasks(GatewayError):
    """The caller has the maximum number of unfinished tasks."""

    status = 429

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"you have {limit} unfinished tasks; wait until one ends, or cancel one",
            [(b"retry-after", b"10")],
        )


class TooManyJobs(GatewayError):
    """The caller has the maximum number of running Jobs."""

    status = 429

    def __init__(self, limit: int) -> None:
        detail = (
            f"you have {limit} running Jobs (trainings, promotions and batches); wait until one "
            "ends, or cancel one"
        )
        super().__init__(detail, [(b"retry-after", b"60")])


class StorageSpent(GatewayError):
    """The caller has reached the storage limit of one caller."""

    status = 429

    def __init__(self, used: int, more: int, limit: int) -> None:
        detail = f"you store {used} bytes, and {limit} are allowed"
        detail += f"; the request needs {more} more" if more else ""
        super().__init__(
            f"{detail}; delete batches, or wait until tasks and images expire",
            [(b"retry-after", b"3600")],
        )


class StorageFull(GatewayError):
    """All callers together have reached the storage limit."""

    status = 507

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"callers store {limit} bytes, the maximum; ask an admin to raise SLIPWAY_STORAGE_LIMIT"
        )


class Unavailable(GatewayError):
    """The service is temporarily unavailable."""

    status = 503

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(detail, [(b"retry-after", str(retry_after).encode())])


class NoMemory(Unavailable):
    """The memory for request bodies is exhausted."""

    limit = "body_budget"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after=1)


class NoConnection(Unavailable):
    """The maximum number of connections is open."""

    limit = "connections"

    def __init__(self) -> None:
        super().__init__("the gateway has too many open connections; retry later", retry_after=1)


class Unreachable(Unavailable):
    """The connection to a predictor failed before the response; another pod may be available."""


class UpstreamTimeout(GatewayError):
    """The predictor did not respond in time."""

    status = 504


class Refused(GatewayError):
    """An error response of the predictor, passed on with its status and text."""

    def __init__(self, status: int, detail: str, headers: Headers) -> None:
        super().__init__(detail, headers)
        self.status = status


class Disconnected(Exception):
    """The caller closed the connection before the request was complete."""


class UpstreamAborted(Exception):
    """The predictor ended its response early, so the response of the gateway is incomplete too."""


def status_of(error: Exception) -> int:
    """Return the HTTP status of an exception."""
    match error:
        case GatewayError() as known:
            return known.status
        case HTTPException() as http:
            return http.status_code
        case InvalidInput() | RequestValidationError():
            return 422
        case MalformedRequest():
            return 400
        case TooManyValues():
            return 413
    return 500


def problem(error: Exception, path: str, request_id: str) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of an error response under ``/v1`` (RFC 9457)."""
    status = status_of(error)
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _detail(error),
        "instance": path,
        "requestId": request_id,
    }
    if findings := _findings(error):
        content["errors"] = findings
    return _response(status, PROBLEM, error, orjson.dumps(content))


def v2_error(error: Exception) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of an error response under ``/v2`` (V2 error object)."""
    return _response(status_of(error), JSON, error, orjson.dumps({"error": _detail(error)}))


def error_response(error: Exception, path: str, request_id: str) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of an error response in the form of the path's API."""
    return v2_error(error) if path.startswith("/v2") else problem(error, path, request_id)


def _response(
    status: int, content_type: bytes, error: Exception, body: bytes
) -> tuple[int, Headers, bytes]:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    return status, [*headers, *_headers(error)], body


def _headers(error: Exception) -> Headers:
    if isinstance(error, GatewayError):
        return error.headers
    given: Mapping[str, str] = (error.headers or {}) if isinstance(error, HTTPException) else {}
    return [(name.lower().encode(), value.encode()) for name, value in given.items()]


def _detail(error: Exception) -> str:
    match error:
        case GatewayError() | InvalidInput() | MalformedRequest() | TooManyValues():
            return str(error)
        case HTTPException() as http:
            return str(http.detail)
        case RequestValidationError():
            first = _findings(error)[0]
            return (
                first["problem"]
                if first["field"] == "body"
                else f"{first['field']}: {first['problem']}"
            )
    return "internal error; the log of the gateway has the reason under the request id"


def _findings(error: Exception) -> list[dict[str, str]]:
    """Return the invalid fields with their problems, or an empty list for other errors."""
    match error:
        case InvalidInput() as invalid:
            return [{"field": invalid.field, "problem": invalid.problem}]
        case RequestValidationError() as found:
            return [_finding(each) for each in found.errors()[:20]]
    return []


def _finding(error: Mapping[str, Any]) -> dict[str, str]:
    """Return the field and problem of a validation error.

    Replaces texts of pydantic and FastAPI without value or remedy.
    """
    match error["type"], error["loc"]:
        case "json_invalid", (_, int()):  # FastAPI's parser
            return {
                "field": "body",
                "problem": (
                    f"the body is not JSON: {error.get('ctx', {}).get('error', error['msg'])}"
                ),
            }
        case "missing", ("body",):
            return {"field": "body", "problem": "the body is empty; send a JSON object"}
        case "string_pattern_mismatch", location:
            problem = f"{error['input']!r:.80} does not match the pattern {error['ctx']['pattern']}"
            return {"field": _field(location), "problem": problem}
        case "extra_forbidden", location:
            return {
                "field": _field(location),
                "problem": "is not a field of this body; omit it",
            }
    return {"field": _field(error["loc"]), "problem": error["msg"].removeprefix("Value error, ")}


def _field(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location[1:]) or str(location[0])
