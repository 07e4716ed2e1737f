"""Why a Job ended, and the exit status that says so."""


class JobError(Exception):
    """A reason that the caller can act on; ``str()`` is the sentence they read, ``status`` the exit
    status.
    """

    status = 1


class WrongParameter(JobError):
    """A parameter that is unknown or does not fit; the sentence names it and says what would."""

    status = 2


class Refused(JobError):
    """The Job did its work and the answer is no. The sentence is one line, whatever a library has
    put into it.
    """

    status = 3

    def __init__(self, reason: str) -> None:
        super().__init__(" ".join(reason.split()))


class Unavailable(JobError):
    """A dataset cannot be had from anywhere it may come from."""


class CorruptTable(JobError):
    """A table with a row that does not fit; the sentence names file, line and column."""


class WrongDigest(JobError):
    """Content that is not what was pinned."""


class Leakage(JobError):
    """Held-out data had a part in the training."""


class ParityError(JobError):
    """The exported graph does not give what the fitted estimator gives."""


class NotConvertible(JobError):
    """ONNX does not say what the estimator says: there is no converter, or it does not support this
    one; the text is why.
    """


class NoSuchVersion(JobError):
    """The registry has no such version, or the version lacks what Slipway writes on one."""


class BatchError(JobError):
    """A batch cannot go on now; what is done of it is kept."""


class BatchRefused(JobError):
    """A batch cannot be predicted, and another attempt would end the same."""

    status = 3


class EventLogError(JobError):
    """The event log cannot be read."""


class WarehouseError(JobError):
    """The warehouse cannot be read or written."""


class SweepError(JobError):
    """A sweep cannot go on now, or none of its trials has worked; what is done of it is kept."""


class TrialFailed(JobError):
    """A trial of a sweep could not be scored; the others go on."""


class CallRefused(JobError):
    """The gateway or its identity provider does not let this caller in."""
