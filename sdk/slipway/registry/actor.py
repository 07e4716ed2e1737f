"""The user name that records have for what a person did."""

import getpass
import os

UNKNOWN = "unknown"
"""User name of a process whose user id has no name, as in a pod with a random user id."""


def actor() -> str:
    """Return ``SLIPWAY_ACTOR``, otherwise the user of the operating system."""
    if given := os.environ.get("SLIPWAY_ACTOR"):
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id is not in the password database
        return UNKNOWN
