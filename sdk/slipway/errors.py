"""Errors of the SDK and of Jobs, each with the exit status of a program that ends with it."""

from collections.abc import Sequence
from typing import Any

from slipway_contract.errors import InvalidInput as InvalidInput  # of an input's values


class SlipwayError(Exception):
    """An error with a reason for the user, ``str()``, and an exit status, ``status``."""

    status = 1
    answers: Any = None
    """What ``predict`` received before an error after some of its requests."""


class WrongParameter(SlipwayError):
    """A parameter is unknown or invalid; the reason names it and its valid values."""

    status = 2


class Refused(SlipwayError):
    """A negative decision, with its reason. The reason is normalized to one line."""

    status = 3

    def __init__(self, reason: str) -> None:
        super().__init__(" ".join(reason.split()))


class DifferentOutputs(Refused):
    """A packaged model has other outputs than the model that was given."""


class WrongDigest(SlipwayError):
    """Content does not have the pinned digest."""


class ParityError(SlipwayError):
    """The exported graph and the fitted estimator have different outputs."""


class NotConvertible(SlipwayError):
    """The estimator has no equivalent ONNX graph: no converter exists or supports it."""


class NoSuchVersion(SlipwayError):
    """The registry has no such version, or the version lacks Slipway's tags."""


class Unavailable(SlipwayError):
    """A dataset is available from none of its sources."""


class CorruptTable(SlipwayError):
    """A table has an invalid row; the reason names file, line and column."""


class Leakage(SlipwayError):
    """Held-out data was used in the training."""


class NotLoadable(SlipwayError):
    """An installed task or dataset cannot be used; the reason names its package."""

    status = 2


class ApiError(SlipwayError):
    """An error response of the gateway.

    ``code`` is its HTTP status, ``detail`` its text, ``errors`` its findings as pairs of field and
    problem, and ``request_id`` identifies the request in logs.
    """

    def __init__(
        self, code: int, detail: str, errors: Sequence[tuple[str, str]] = (), request_id: str = ""
    ) -> None:
        found = [f"{field}: {problem}" for field, problem in errors]
        super().__init__("; ".join([detail, *(each for each in found if each not in detail)]))
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id

    @property
    def field(self) -> str | None:
        """The first invalid field, None when the error is not about one."""
        return self.errors[0][0] if self.errors else None

    @property
    def remedy(self) -> str | None:
        """What the caller can do: the last part of the text, after a semicolon."""
        return self.detail.rpartition("; ")[2] if "; " in self.detail else None


class Rejected(ApiError):
    """The gateway rejects the request (4xx)."""

    status = 3


class InvalidRequest(Rejected):
    """The content of the request is invalid; ``field`` names its first invalid field (400, 422)."""


class NotLoggedIn(Rejected):
    """The access token is missing, invalid or expired (401)."""

    status = 5


class NotAllowed(Rejected):
    """The caller lacks a role or a grant (403)."""


class NotFound(Rejected):
    """The resource does not exist, or belongs to another caller (404)."""


class Conflict(Rejected):
    """The state of the resource does not allow the request (409, 412)."""


class TooLarge(Rejected):
    """The request has too many bytes or values (413)."""


class LimitReached(Rejected):
    """A rate, a quota or a storage limit is reached (429, 507)."""


class ServerError(ApiError):
    """The gateway or a predictor failed (5xx)."""


class NoResponse(SlipwayError):
    """The gateway cannot be reached, or the connection ended before its response."""


class ProviderUnavailable(SlipwayError):
    """The identity provider does not respond, or not with a token; a login stays as it is."""


class NoResult(SlipwayError):
    """A Job or a task has not ended in the time that was given."""

    status = 4
