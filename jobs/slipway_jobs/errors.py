"""Errors of Jobs, each with its exit status."""


class JobError(Exception):
    """An error with a reason for the user, ``str()``, and an exit status, ``status``."""

    status = 1


class WrongParameter(JobError):
    """A parameter is unknown or invalid; the reason names it and its valid values."""

    status = 2


class Refused(JobError):
    """The Job finished with a negative decision. The reason is normalized to one line."""

    status = 3

    def __init__(self, reason: str) -> None:
        super().__init__(" ".join(reason.split()))


class Unavailable(JobError):
    """A dataset is available from none of its sources."""


class CorruptTable(JobError):
    """A table has an invalid row; the reason names file, line and column."""


class WrongDigest(JobError):
    """Content does not have the pinned digest."""


class Leakage(JobError):
    """Held-out data was used in the training."""


class ParityError(JobError):
    """The exported graph and the fitted estimator have different outputs."""


class NotConvertible(JobError):
    """The estimator has no equivalent ONNX graph: no converter exists or supports it."""


class NoSuchVersion(JobError):
    """The registry has no such version, or the version lacks Slipway's tags."""


class BatchError(JobError):
    """A batch failed and can be resumed; its finished parts are stored."""


class BatchRefused(JobError):
    """A batch is invalid; another attempt would have the same result."""

    status = 3


class EventLogError(JobError):
    """The event log cannot be read."""


class WarehouseError(JobError):
    """The warehouse cannot be read or written."""


class SweepError(JobError):
    """A sweep failed, or none of its trials succeeded; its finished trials are stored."""


class TrialFailed(JobError):
    """A trial of a sweep has no score; the other trials continue."""


class CallRefused(JobError):
    """The gateway or its identity provider rejected the caller's credentials."""
