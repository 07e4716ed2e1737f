"""Permissions of routes and the access table, which rejects requests for all other routes.

Each route declares its permission, and the table is generated from the routes. A path with
``{model}`` also requires a grant of that model, independent of roles (see grants.py).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from slipway_gateway.errors import MethodNotAllowed, NotFound
from slipway_gateway.identity.roles import Role

PUBLIC = None
"""The route requires no token."""
SIGNED_IN = frozenset[Role]()
"""The route requires a valid token and no role."""
ALL = frozenset(Role)
SCIENTIFIC = frozenset({Role.SCIENTIST, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})
ORDER = tuple(Role)
"""The roles from least to most privileged; logs contain the least-privileged sufficient role."""


class Spending(StrEnum):
    """The kind of a request. Each kind has a separate rate limit."""

    PREDICTION = "prediction"
    TRAINING = "training"
    FEEDBACK = "feedback"
    REQUEST = "request"
    """Every other request."""


@dataclass(frozen=True)
class Permission:
    """The roles that may use a route, and the kind of its requests."""

    name: str
    roles: frozenset[Role] | None
    spends: Spending | None = Spending.REQUEST
    """Kind for rate limiting; None: unlimited, only for probes, which read memory alone."""
    optional_authentication: bool = False
    """The route is public, and a token that is sent is validated and identifies the caller."""
    confirmed: bool = False
    """The gateway confirms the caller's role with the identity provider on every request."""

    def decision(self, roles: frozenset[Role]) -> str | None:
        """Return the reason of access, as ``predict:user``; None if the roles do not suffice."""
        if not self.roles:
            return f"{self.name}:anyone"
        for role in ORDER:
            if role in roles and role in self.roles:
                return f"{self.name}:{role}"
        return None

    def at(self, method: str, path: str) -> "Rule":
        """Return the access rule of a route with this permission."""
        return Rule(**vars(self), method=method, path=path)


@dataclass(frozen=True, kw_only=True)
class Rule(Permission):
    """An access rule: a route and its permission."""

    method: str
    path: str
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Neither names of models nor versions contain a colon: /v1/models/heart:predict is a path
        # of TensorFlow Serving.
        pattern = re.sub(r"\\{(model|version)\\}", r"(?P<\1>[^/:]+)", re.escape(self.path))
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", pattern)
        object.__setattr__(self, "pattern", re.compile(pattern))


PREDICT = Permission("predict", ALL, Spending.PREDICTION)
PROBE = Permission("health", PUBLIC, spends=None)

ALTERNATIVES = (
    (
        r"/v[12]/models/([^/:]{1,100})(?:/versions/[^/:]{1,100})?(?::|/)(?:predict|predictions|infer|classify|regress|explain|generate)",
        r"send named rows to POST /v1/models/\1/predictions, "
        r"or tensors to POST /v2/models/\1/infer",
    ),
    (r"/v2/models|/v2/repository/index|/models", "GET /v1/models lists the models"),
    (r"/(?:v2/)?(?:health|healthz|ping|live|ready)", "send probes to GET /livez and /readyz"),
    (r"/openapi\.json", "the document is at /v1/openapi.json"),
    (r"/metrics", "metrics are served on a separate port, SLIPWAY_GATEWAY_METRICS_PORT"),
)
"""Patterns of paths of other model servers, each with its equivalent here as error text."""


class AccessTable:
    """The rules of the routes that a gateway serves. A request for any other route is rejected."""

    def __init__(self, rules: Iterable[Rule], unserved: Mapping[str, str] | None = None) -> None:
        """Compose the table; it is searched in order.

        ``unserved`` has the error text for routes that another configuration serves, by pattern of
        method and path.
        """
        self.rules = tuple(rules)
        self._unserved = {re.compile(key): text for key, text in (unserved or {}).items()}

    def match(self, method: str, path: str) -> tuple[Rule, dict[str, str]]:
        """Return the rule of a request and the parameters in its path.

        HEAD has the rule of GET (RFC 9110, section 9.3.2). Raises NotFound, MethodNotAllowed.
        """
        wanted = "GET" if method == "HEAD" else method
        allowed = []
        for rule in self.rules:
            if found := rule.pattern.fullmatch(path):
                if rule.method == wanted:
                    return rule, found.groupdict()
                allowed.append(rule.method)
        if allowed:
            raise MethodNotAllowed(method, allowed)
        for unserved, text in self._unserved.items():
            if unserved.fullmatch(f"{wanted} {path}"):
                raise NotFound(text)
        raise NotFound(f"path {path[:200]} does not exist; {self._alternative(path)}")

    def _alternative(self, path: str) -> str:
        """Return an error text with the route that the caller probably meant."""
        plain = re.sub("/+", "/", path).rstrip("/")
        if plain != path and any(rule.pattern.fullmatch(plain) for rule in self.rules):
            return f"use {plain[:200]}, without the extra slash"
        for pattern, alternative in ALTERNATIVES:
            if found := re.fullmatch(pattern, plain):
                return found.expand(alternative)
        return "GET /v1/docs describes the API"
