"""Why an artifact is not served. ``str()`` is one line that a person can act on."""


class Refused(Exception):
    """The artifact, or the place it comes from, is not what it must be; nothing is served."""

    def __init__(self, reason: str) -> None:
        # Names and messages come from outside: no line breaks or control characters reach the log.
        super().__init__(" ".join("".join(c if c.isprintable() else " " for c in reason).split()))
