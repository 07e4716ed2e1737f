"""Errors of the SDK and of Jobs, each with the exit status of a program that ends with it."""

from slipway_contract.errors import InvalidInput as InvalidInput  # of an input's values


class SlipwayError(Exception):
    """An error with a reason for the user, ``str()``, and an exit status, ``status``."""

    status = 1


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
