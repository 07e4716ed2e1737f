"""Roles of callers."""

from enum import StrEnum


class Role(StrEnum):
    """The role of a caller: a user's from the groups in the token, or that of service accounts."""

    SERVICE = "service"
    USER = "user"
    SCIENTIST = "scientist"
    ADMIN = "admin"


USER_ROLES = frozenset({Role.USER, Role.SCIENTIST, Role.ADMIN})
