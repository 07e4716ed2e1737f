"""What can go wrong, the status of each, and the two forms in which a caller reads it."""

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
    """An answer other than success. ``str()`` is read by the caller, so it says nothing of our
    insides.
    """

    status = 500
    limit: str | None = None
    """Which limit was reached, as metrics name it; None: the error is of another kind."""

    def __init__(self, detail: str, headers: Headers | None = None) -> None:
        super().__init__(detail)
        self.headers: Headers = headers or []


class BadRequest(GatewayError):
    """It is not HTTP."""

    status = 400


class Unauthenticated(GatewayError):
    """No token, or one that proves nothing. The header says why (RFC 6750, section 3)."""

    status = 401

    def __init__(self, detail: str) -> None:
        # A quoted-string of RFC 9110: no quotes or control characters inside; the reason may quote
        # the token.
        reason = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in detail)
        challenge = f'Bearer realm="slipway", error="invalid_token", error_description="{reason}"'
        super().__init__(detail, [(b"www-authenticate", challenge.encode("ascii"))])


class Forbidden(GatewayError):
    """A known caller who may not do this."""

    status = 403

    def __init__(self, detail: str) -> None:
        super().__init__(
            detail, [(b"www-authenticate", b'Bearer realm="slipway", error="insufficient_scope"')]
        )


class NotFound(GatewayError):
    """There is no such thing, or it is someone else's."""

    status = 404


class MethodNotAllowed(GatewayError):
    """The path exists, with other methods."""

    status = 405

    def __init__(self, method: str, allowed: list[str]) -> None:
        names, header = (
            ", ".join(allowed),
            ", ".join([*allowed, *(["HEAD"] if "GET" in allowed else [])]),
        )
        super().__init__(
            f"{method} is not allowed here; use {names}", [(b"allow", header.encode())]
        )


class TooSlow(GatewayError):
    """The caller took longer to send a request than is waited."""

    status = 408
    limit = "time"


class Conflict(GatewayError):
    """It cannot be done to the thing as it is now."""

    status = 409


class KeyReused(InvalidInput):
    """The Idempotency-Key is that of another request."""

    def __init__(self) -> None:
        super().__init__("Idempotency-Key", "was used before, for something else; send another one")


class TooLarge(GatewayError):
    """The body is over the limit."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes; send it in parts")


class ImageTooLarge(GatewayError):
    """One of the files is over the limit."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"an image is larger than {limit} bytes; send it smaller")


class UnsupportedType(GatewayError):
    """The body is not of a type, or in a coding, that is read here."""

    status = 415


class TooMany(GatewayError):
    """A rate or a quota is spent; ``seconds`` until it is worth to come back."""

    status = 429
    limit = "rate"

    def __init__(self, detail: str, seconds: int, fields: Headers) -> None:
        super().__init__(detail, [(b"retry-after", str(seconds).encode()), *fields])


class TooManyAtOnce(GatewayError):
    """The caller has as much under way as one caller may have."""

    status = 429

    def __init__(self, limit: str, detail: str) -> None:
        super().__init__(detail, [(b"retry-after", b"1")])
        self.limit = limit


class HeadTooLarge(GatewayError):
    """More is in front of the body, or around it, than is read."""

    status = 431
    limit = "head"

    def __init__(self, size: int, count: int, what: str = "headers") -> None:
        hint = "; a token with many groups can be the reason" if what == "headers" else ""
        super().__init__(f"the {what} are more than {count}, or longer than {size} bytes{hint}")


class TooManyTasks(GatewayError):
    """The caller has enough waiting."""

    status = 429

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"you have {limit} tasks that are not finished; wait until one ends, or cancel one",
            [(b"retry-after", b"10")],
        )


class TooManyJobs(GatewayError):
    """The caller has enough Jobs under way."""

    status = 429

    def __init__(self, limit: int) -> None:
        detail = (
            f"you have {limit} Jobs under way (trainings, promotions and batches); wait until "
            "one ends, or cancel one"
        )
        super().__init__(detail, [(b"retry-after", b"60")])


class StorageSpent(GatewayError):
    """The caller stores as much as one caller may."""

    status = 429

    def __init__(self, used: int, more: int, limit: int) -> None:
        detail = f"you store {used} bytes, and {limit} are allowed"
        detail += f"; {more} more do not fit" if more else ""
        super().__init__(
            f"{detail}; delete batches, or wait until tasks and images expire",
            [(b"retry-after", b"3600")],
        )


class StorageFull(GatewayError):
    """All callers together store as much as they may."""

    status = 507

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"callers store {limit} bytes, the most that is allowed; ask an admin to raise "
            "SLIPWAY_STORAGE_LIMIT"
        )


class Unavailable(GatewayError):
    """It cannot be answered now, but later."""

    status = 503

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(detail, [(b"retry-after", str(retry_after).encode())])


class NoMemory(Unavailable):
    """There is no room for another body."""

    limit = "body_budget"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after=1)


class NoConnection(Unavailable):
    """There is no room for another connection."""

    limit = "connections"

    def __init__(self) -> None:
        super().__init__("too many connections are open", retry_after=1)


class Unreachable(Unavailable):
    """No connection to the predictor, or one that broke off before the answer: another may be
    better.
    """


class UpstreamTimeout(GatewayError):
    """The predictor did not answer in time."""

    status = 504


class Refused(GatewayError):
    """The predictor's own refusal, passed on with its status and text."""

    def __init__(self, status: int, detail: str, headers: Headers) -> None:
        super().__init__(detail, headers)
        self.status = status


class Disconnected(Exception):
    """The caller went away before the request was complete; nobody is left to answer."""


class UpstreamAborted(Exception):
    """The predictor broke off in the middle of an answer; all we can do is break off too."""


def status_of(error: Exception) -> int:
    """The one table from exceptions to statuses."""
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
    """Status, headers and body of an answer under ``/v1``: RFC 9457."""
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
    return _answer(status, PROBLEM, error, orjson.dumps(content))


def v2_error(error: Exception) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an answer under ``/v2``: the protocol's error object."""
    return _answer(status_of(error), JSON, error, orjson.dumps({"error": _detail(error)}))


def _answer(
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
    return "something went wrong here; the request id leads to the log line that says what"


def _findings(error: Exception) -> list[dict[str, str]]:
    """What is wrong, field by field, where that is known."""
    match error:
        case InvalidInput() as invalid:
            return [{"field": invalid.field, "problem": invalid.problem}]
        case RequestValidationError() as found:
            return [_finding(each) for each in found.errors()[:20]]
    return []


def _finding(error: Mapping[str, Any]) -> dict[str, str]:
    """An error of pydantic or FastAPI in our words, where theirs name no value or no remedy."""
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
            problem = f"{error['input']!r:.80} does not fit the pattern {error['ctx']['pattern']}"
            return {"field": _field(location), "problem": problem}
        case "extra_forbidden", location:
            return {
                "field": _field(location),
                "problem": "is not a field of this body; leave it out",
            }
    return {"field": _field(error["loc"]), "problem": error["msg"].removeprefix("Value error, ")}


def _field(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location[1:]) or str(location[0])
