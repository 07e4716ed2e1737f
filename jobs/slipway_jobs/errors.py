"""Errors of Jobs, in addition to those of the SDK; each has its exit status."""

from slipway.errors import SlipwayError


class BatchError(SlipwayError):
    """A batch failed and can be resumed; its finished parts are stored."""


class BatchRefused(SlipwayError):
    """A batch is invalid; another attempt would have the same result."""

    status = 3


class EventLogError(SlipwayError):
    """The event log cannot be read."""


class WarehouseError(SlipwayError):
    """The warehouse cannot be read or written."""


class SweepError(SlipwayError):
    """A sweep failed, or none of its trials succeeded; its finished trials are stored."""


class TrialFailed(SlipwayError):
    """A trial of a sweep has no score; the other trials continue."""


class CallRefused(SlipwayError):
    """The gateway or its identity provider rejected the caller's credentials."""
