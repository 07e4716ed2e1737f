"""The error of an artifact that cannot be served. ``str()`` is one line with the reason."""

from pydantic import ValidationError


class Refused(Exception):
    """The artifact, or the registry it comes from, is not valid; nothing is served."""

    def __init__(self, reason: str) -> None:
        # Names and messages come from outside: no line breaks or control characters reach the log.
        super().__init__(" ".join("".join(c if c.isprintable() else " " for c in reason).split()))


def first_finding(error: ValidationError) -> str:
    """Return the first finding of a pydantic error as ``where: what``."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
