"""Groups and roles that a token's claims give; issuers differ in where they write them and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway_gateway.identity.roles import PEOPLE, Role


@dataclass(frozen=True)
class GroupClaim:
    """Reads groups from one claim, and maps groups to roles."""

    path: str = "groups"
    """Name of the claim, or the names on the way to it with dots between:
    ``realm_access.roles``.
    """
    prefix: str = ""
    """What every group begins with; it is removed, and values without it are ignored."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Group to role. When it is empty, the groups ``user``, ``scientist`` and ``admin`` give the
    roles of the same names.
    """

    def groups_of(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the caller's groups; a claim with a single text is one group, any other type is
        none.
        """
        value = self._value(claims)
        values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        found = (each for each in values if isinstance(each, str) and each.startswith(self.prefix))
        return tuple(name for each in found if (name := each.removeprefix(self.prefix)))

    def roles_of(self, groups: tuple[str, ...]) -> frozenset[Role]:
        """Return the roles that these groups give."""
        roles = self.roles or {role.value: role for role in PEOPLE}
        return frozenset(roles[group] for group in groups if group in roles)

    def _value(self, claims: Mapping[str, Any]) -> Any:
        if self.path in claims:  # also a name with dots in it, as https://example.org/roles
            return claims[self.path]
        value: Any = claims
        for name in self.path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value
