"""Groups and roles from the claims of a token, whose names and format differ between issuers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway_gateway.identity.roles import USER_ROLES, Role


@dataclass(frozen=True)
class GroupClaim:
    """The claim that contains groups, and the mapping of groups to roles."""

    path: str = "groups"
    """Name of the claim, or its path with dots such as ``realm_access.roles``."""
    prefix: str = ""
    """Prefix of every group; it is removed, and values without it are ignored."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Group to role; if empty, the groups ``user``, ``scientist`` and ``admin`` are roles."""

    def groups_of(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the groups of the claim.

        A string is one group; a value that is neither a string nor a list is no group.
        """
        value = self._value(claims)
        values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        found = (each for each in values if isinstance(each, str) and each.startswith(self.prefix))
        return tuple(name for each in found if (name := each.removeprefix(self.prefix)))

    def roles_of(self, groups: tuple[str, ...]) -> frozenset[Role]:
        """Return the roles of these groups."""
        roles = self.roles or {role.value: role for role in USER_ROLES}
        return frozenset(roles[group] for group in groups if group in roles)

    def _value(self, claims: Mapping[str, Any]) -> Any:
        if self.path in claims:  # a name may contain dots, as https://example.org/roles
            return claims[self.path]
        value: Any = claims
        for name in self.path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value
