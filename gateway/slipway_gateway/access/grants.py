"""Decisions on which models a caller may use and by which policy, over a snapshot of the grants."""

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
    """A policy that applies to a user, group or client for the models that match a name or glob."""

    grant_id: str
    grantee: str
    """``user:ada``, ``group:scientist`` or ``client:nightly``."""
    models: str
    policy: Policy
    expires: float
    """End of the grant in Unix time; infinite if it does not expire."""
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile(fnmatch.translate(self.models)))

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Sort key of precedence, lowest first.

        A user or client precedes a group, a name precedes a glob, a long glob a short one.
        """
        is_glob = any(sign in self.models for sign in "*?")
        return self.grantee.startswith("group:"), is_glob, -len(self.models)


class Grants:
    """A snapshot of all grants, with a cache of decisions.

    The cache key contains only grantees that have a grant and models that exist, so callers cannot
    fill the cache with values of their requests.
    """

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._by_grantee: dict[str, list[Grant]] = {}
        # The sort is stable: among grants of equal rank the one created first applies.
        for grant in sorted(grants, key=lambda each: each.rank):
            self._by_grantee.setdefault(grant.grantee, []).append(grant)
        self._decisions: dict[tuple[tuple[str, ...], str], Grant] = {}

    def find(self, caller: Caller, model: str, now: float, *, exists: bool = True) -> Grant | None:
        """Return the grant that applies to the caller and model at ``now`` (Unix time), or None.

        ``exists``: the model exists; decisions on other names are not cached.
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

    def of(self, caller: Caller, now: float) -> list[Grant]:
        """Return all grants of the caller that have not expired, by precedence."""
        found = [
            grant
            for grantee in caller.grantees
            for grant in self._by_grantee.get(grantee, ())
            if now < grant.expires
        ]
        return sorted(found, key=lambda each: each.rank)

    def _search(self, grantees: tuple[str, ...], model: str, now: float) -> Grant | None:
        fitting = [
            grant
            for grantee in grantees
            for grant in self._by_grantee[grantee]
            if now < grant.expires and grant.pattern.match(model)
        ]
        return min(fitting, key=lambda each: each.rank, default=None)

    def get(self, caller: Caller, model: str, now: float, *, exists: bool = True) -> Grant:
        """Return the grant that applies to the caller and model at ``now`` (Unix time).

        Raises Forbidden, also for a model that does not exist, so that a caller without a grant
        cannot discover model names.
        """
        grant = self.find(caller, model, now, exists=exists)
        if grant is None:
            raise Forbidden(
                f"model {model} is not granted to you; GET /v1/models lists those that are"
            )
        return grant
