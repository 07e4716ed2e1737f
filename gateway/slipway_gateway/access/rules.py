"""The access table: every route with its required roles. A request for any other route is rejected.

A path with ``{model}`` also requires a grant of that model, independent of roles (see grants.py).
"""

import re
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
class Rule:
    """An access rule: a route and the roles that may use it."""

    method: str
    path: str
    name: str
    roles: frozenset[Role] | None
    spends: Spending | None = Spending.REQUEST
    """Kind for rate limiting; None: unlimited, only for probes, which read memory alone."""
    optional_authentication: bool = False
    """The route is public, and a token that is sent is validated and identifies the caller."""
    confirmed: bool = False
    """The gateway confirms the caller's role with the identity provider on every request."""
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Model names contain no colon: /v1/models/heart:predict is a path of TensorFlow Serving.
        pattern = re.escape(self.path).replace(r"\{model\}", "(?P<model>[^/:]+)")
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", pattern)
        object.__setattr__(self, "pattern", re.compile(pattern))

    def decision(self, roles: frozenset[Role]) -> str | None:
        """Return the reason of access, as ``predict:user``; None if the roles do not suffice."""
        if not self.roles:
            return f"{self.name}:anyone"
        for role in ORDER:
            if role in roles and role in self.roles:
                return f"{self.name}:{role}"
        return None


# The table is searched in order; the first route has the most requests.
RULES = (
    Rule("POST", "/v2/models/{model}/infer", "predict", ALL, Spending.PREDICTION),
    Rule(
        "POST",
        "/v2/models/{model}/versions/{version}/infer",
        "predict-version",
        ALL,
        Spending.PREDICTION,
    ),
    Rule("GET", "/v2/models/{model}", "describe", ALL),
    Rule("GET", "/v2/models/{model}/ready", "describe", ALL),
    Rule("GET", "/v2/models/{model}/versions/{version}", "describe", ALL),
    Rule("GET", "/v2/models/{model}/versions/{version}/ready", "describe", ALL),
    Rule("GET", "/v2", "server", PUBLIC),
    Rule("GET", "/v2/health/live", "health", PUBLIC, spends=None),
    Rule("GET", "/v2/health/ready", "health", PUBLIC, spends=None),
    Rule("POST", "/v1/models/{model}/predictions", "predict", ALL, Spending.PREDICTION),
    Rule("GET", "/v1/models", "describe", ALL),
    Rule("GET", "/v1/models/{model}", "describe", ALL),
    Rule("GET", "/v1/models/{model}/card", "describe", ALL),
    Rule("GET", "/v1/predictions/{request_id}", "receipt", ALL),
    Rule("POST", "/v1/predictions/{request_id}/feedback", "feedback", ALL, Spending.FEEDBACK),
    Rule("GET", "/v1/predictions/{request_id}/feedback", "receipt", ALL),
    Rule("GET", "/v1/predictions/{request_id}/images/{number}", "receipt", ALL),
    Rule("GET", "/v1/models/{model}/feedback.parquet", "labels", SCIENTIFIC),
    Rule("GET", "/v1/models/{model}/accuracy", "labels", SCIENTIFIC),
    Rule("POST", "/v1/models/{model}/trainings", "train", SCIENTIFIC, Spending.TRAINING),
    Rule("GET", "/v1/models/{model}/trainings", "train", SCIENTIFIC),
    Rule("GET", "/v1/models/{model}/trainings/{job}", "train", SCIENTIFIC),
    Rule("DELETE", "/v1/models/{model}/trainings/{job}", "train", SCIENTIFIC),
    Rule("GET", "/v1/models/{model}/trainings/{job}/logs", "train", SCIENTIFIC),
    Rule("POST", "/v1/models/{model}/promotions", "promote", SCIENTIFIC, Spending.TRAINING),
    Rule("GET", "/v1/models/{model}/promotions", "promote", SCIENTIFIC),
    Rule("GET", "/v1/models/{model}/promotions/{job}", "promote", SCIENTIFIC),
    Rule("POST", "/v1/models/{model}/batches", "batch", ALL, Spending.TRAINING),
    Rule("GET", "/v1/batches", "batch", ALL),
    Rule("GET", "/v1/batches/{batch_id}", "batch", ALL),
    Rule("GET", "/v1/batches/{batch_id}/result", "batch", ALL),
    Rule("DELETE", "/v1/batches/{batch_id}", "batch", ALL),
    Rule("GET", "/v1/tasks", "tasks", ALL),
    Rule("GET", "/v1/tasks/{task_id}", "tasks", ALL),
    Rule("GET", "/v1/tasks/{task_id}/result", "tasks", ALL),
    Rule("DELETE", "/v1/tasks/{task_id}", "tasks", ALL),
    Rule("POST", "/v1/tasks/{task_id}/replay", "replay", ADMINS),
    Rule("POST", "/v1/webhooks", "tasks", ALL),
    Rule("GET", "/v1/webhooks", "tasks", ALL),
    Rule("DELETE", "/v1/webhooks/{webhook_id}", "tasks", ALL),
    Rule("GET", "/v1/me", "me", SIGNED_IN),
    Rule("DELETE", "/v1/me", "leave", SIGNED_IN),
    Rule("GET", "/v1/users", "manage-users", ADMINS),
    Rule("GET", "/v1/users/{user}", "manage-users", ADMINS),
    Rule("PATCH", "/v1/users/{user}", "manage-users", ADMINS, confirmed=True),
    Rule("DELETE", "/v1/users/{user}", "manage-users", ADMINS, confirmed=True),
    Rule("GET", "/v1/groups", "manage-users", ADMINS),
    Rule("PUT", "/v1/groups/{group}/members/{user}", "manage-users", ADMINS, confirmed=True),
    Rule("DELETE", "/v1/groups/{group}/members/{user}", "manage-users", ADMINS, confirmed=True),
    Rule("GET", "/v1/policies", "administer", ADMINS),
    Rule("POST", "/v1/policies", "administer", ADMINS, confirmed=True),
    Rule("GET", "/v1/policies/{policy}", "administer", ADMINS),
    Rule("PUT", "/v1/policies/{policy}", "administer", ADMINS, confirmed=True),
    Rule("DELETE", "/v1/policies/{policy}", "administer", ADMINS, confirmed=True),
    Rule("GET", "/v1/grants", "administer", ADMINS),
    Rule("POST", "/v1/grants", "administer", ADMINS, confirmed=True),
    Rule("GET", "/v1/grants/{grant_id}", "administer", ADMINS),
    Rule("PUT", "/v1/grants/{grant_id}", "administer", ADMINS, confirmed=True),
    Rule("DELETE", "/v1/grants/{grant_id}", "administer", ADMINS, confirmed=True),
    Rule("GET", "/v1/usage", "usage", ALL),
    Rule("GET", "/v1/audit", "audit", ADMINS),
    Rule("GET", "/v1/openapi.json", "openapi", PUBLIC, optional_authentication=True),
    Rule("GET", "/v1/docs", "openapi", PUBLIC),
    Rule("GET", "/v1/docs/login", "openapi", PUBLIC),
    Rule("GET", "/v1/docs/{asset}", "openapi", PUBLIC),
    Rule("GET", "/livez", "health", PUBLIC, spends=None),
    Rule("GET", "/readyz", "health", PUBLIC, spends=None),
)

ALTERNATIVES = (
    (
        r"/v[12]/models/([^/:]{1,100})(?:/versions/[^/:]{1,100})?(?::|/)(?:predict|predictions|infer|classify|regress|explain|generate)",
        r"send named rows to POST /v1/models/\1/predictions, "
        r"or tensors to POST /v2/models/\1/infer",
    ),
    (
        r"/v1/models/([^/:]{1,100})/versions/([^/:]{1,100})",
        r"send requests for one version to /v2/models/\1/versions/\2/infer",
    ),
    (r"/v2/models|/v2/repository/index|/models", "GET /v1/models lists the models"),
    (r"/(?:v2/)?(?:health|healthz|ping|live|ready)", "send probes to GET /livez and /readyz"),
    (r"/openapi\.json", "the document is at /v1/openapi.json"),
    (r"/metrics", "metrics are served on a separate port, SLIPWAY_GATEWAY_METRICS_PORT"),
)
"""Patterns of paths of other model servers, each with its equivalent here as error text."""


def match(method: str, path: str) -> tuple[Rule, dict[str, str]]:
    """Return the rule of a request and the parameters in its path.

    HEAD has the rule of GET (RFC 9110, section 9.3.2). Raises NotFound, MethodNotAllowed.
    """
    wanted = "GET" if method == "HEAD" else method
    allowed = []
    for rule in RULES:
        if found := rule.pattern.fullmatch(path):
            if rule.method == wanted:
                return rule, found.groupdict()
            allowed.append(rule.method)
    if allowed:
        raise MethodNotAllowed(method, allowed)
    raise NotFound(f"path {path[:200]} does not exist; {_alternative(path)}")


def _alternative(path: str) -> str:
    """Return an error text with the route that the caller probably meant."""
    plain = re.sub("/+", "/", path).rstrip("/")
    if plain != path and any(rule.pattern.fullmatch(plain) for rule in RULES):
        return f"use {plain[:200]}, without the extra slash"
    for pattern, alternative in ALTERNATIVES:
        if found := re.fullmatch(pattern, plain):
            return found.expand(alternative)
    return "GET /v1/docs describes the API"
