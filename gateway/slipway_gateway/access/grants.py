"""Which models a caller may use, and by which policy: pure decisions over one snapshot of the
grants.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from slipway_gateway.errors import Forbidden
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.limits.policy import Policy

MAX_DECISIONS = 10_000


@dataclass(frozen=True, slots=True)
class Grant:
    """A policy for a user, a group or a client, at the models of a name or a glob."""

    grant_id: str
    grantee: str
    """``user:ada``, ``group:scientist`` or ``client:nightly``."""
    models: str
    policy: Policy
    expires: float
    """Unix time."""
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile(fnmatch.translate(self.models)))

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Low ones go first: the person's before the group's, a name before a glob, a longer glob
        before a shorter one.
        """
        is_glob = any(sign in self.models for sign in "*?")
        return self.grantee.startswith("group:"), is_glob, -len(self.models)


class Grants:
    """All grants of one moment. Decisions are cached, because a caller asks for the same model
    again and again.

    The cache is keyed by what administrators named, never by what callers send: by the grantees
    that have a grant, and by models that exist.
    """

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._by_grantee: dict[str, list[Grant]] = {}
        for grant in sorted(
            grants, key=lambda each: each.rank
        ):  # stable: among equals the one that was given first
            self._by_grantee.setdefault(grant.grantee, []).append(grant)
        self._decisions: dict[tuple[tuple[str, ...], str], Grant] = {}

    def find(self, caller: Caller, model: str, now: float, *, exists: bool = True) -> Grant | None:
        """Return the one grant that counts for this caller and this model at this time.

        ``exists``: whether there is a model of that name; if not, the decision is not cached.
        """
        grantees = tuple(each for each in caller.grantees if each in self._by_grantee)
        key = (grantees, model)
        known = self._decisions.get(key)
        if known is not None and now < known.expires:
            return known
        found = self._search(grantees, model, now)
        if found is not None and exists:
            if len(self._decisions) >= MAX_DECISIONS:
                self._decisions.clear()
            self._decisions[key] = found
        return found

    def _search(self, grantees: tuple[str, ...], model: str, now: float) -> Grant | None:
        fitting = [
            grant
            for grantee in grantees
            for grant in self._by_grantee[grantee]
            if now < grant.expires and grant.pattern.match(model)
        ]
        return min(fitting, key=lambda each: each.rank, default=None)

    def get(self, caller: Caller, model: str, now: float, *, exists: bool = True) -> Grant:
        """Raises Forbidden, also for a model that does not exist: who may not use it does not learn
        that.
        """
        grant = self.find(caller, model, now, exists=exists)
        if grant is None:
            raise Forbidden(
                f"model {model} is not granted to you; GET /v1/models lists those that are"
            )
        return grant
