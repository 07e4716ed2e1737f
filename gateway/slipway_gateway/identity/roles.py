"""Roles of callers."""

from enum import StrEnum


class Role(StrEnum):
    """What a caller is: people by the groups of their token, a service account by its token being
    its own.
    """

    SERVICE = "service"
    USER = "user"
    SCIENTIST = "scientist"
    ADMIN = "admin"


PEOPLE = frozenset({Role.USER, Role.SCIENTIST, Role.ADMIN})
