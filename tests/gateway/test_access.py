"""The access table: complete, and deny by default."""

from collections.abc import Callable, Iterable, Iterator

import psycopg
import pytest
from fastapi import APIRouter
from slipway_gateway.access.route import Router
from slipway_gateway.access.rules import ALL, PUBLIC, Rule
from slipway_gateway.errors import MethodNotAllowed, NotFound
from slipway_gateway.identity.roles import Role
from starlette.routing import BaseRoute, Route

from tests.gateway.access import RULES, TABLE, WITHOUT_SCIM
from tests.gateway.environment import Client, Environment
from tests.gateway.issuer import Issuer

PUBLIC_PATHS = {
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v1/openapi.json",
    "/v1/docs",
    "/v1/docs/login",
    "/v1/docs/{asset}",
    "/.well-known/oauth-protected-resource",
    "/livez",
    "/readyz",
}


def test_every_route_has_a_rule_and_every_rule_a_route(client: Client) -> None:
    routes = {(rule.method, rule.path) for rule in client.gateway.data.v2.rules}
    found = _all_routes(client.gateway.api.router.routes)
    routes |= {
        (method, route.path)
        for route in found
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert routes == {(rule.method, rule.path) for rule in client.gateway.table.rules}
    assert client.gateway.table.rules == tuple(
        rule for rule in RULES if rule in client.gateway.table.rules
    )


def test_a_route_without_a_permission_is_refused(own_environment: Environment) -> None:
    async def undeclared() -> str:
        return "reached"

    with pytest.raises(ValueError, match=r"route /v1/undeclared of undeclared declares no perm"):
        Router(prefix="/v1").get("/undeclared")(undeclared)
    with own_environment.gateway() as client:
        client.gateway.api.add_api_route("/v1/undeclared", undeclared)
        for who in (None, "ada", "root"):
            assert client.get("/v1/undeclared", who).status_code == 404


def test_openapi_contains_exactly_the_routes_with_a_rule(client: Client) -> None:
    paths = client.get("/v1/openapi.json", who=None).json()["paths"]
    documented = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods.keys() - {"parameters"}
    }
    rules = client.gateway.table.rules
    assert documented == {(r.method, r.path) for r in rules if r.name != "openapi"}


def test_only_these_paths_require_no_token() -> None:
    assert {rule.path for rule in RULES if rule.roles is PUBLIC} == PUBLIC_PATHS


TOKENS: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "user": ("ada", ("user",), {}),
    "scientist": ("sam", ("scientist",), {}),
    "admin": ("root", ("admin",), {}),
    "service": ("nightly", (), {"client_id": "nightly"}),
    "clinicians": ("eve", ("clinicians",), {}),
}
"""Subject, groups and further claims of a caller of each role; the last one has no role."""


@pytest.fixture(scope="module")
def granted(new_environment: Callable[[], Environment]) -> Iterator[Client]:
    """Provide a gateway at which every role has all grants, so that only the table rejects."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with psycopg.connect(environment.database_url) as connection:
        for grantee in ("client:nightly", "group:clinicians"):
            connection.execute(
                "INSERT INTO grants VALUES (%s, %s, '*', 'default')", [grantee, grantee]
            )
    with environment.gateway() as client:
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("who", [None, *TOKENS])
@pytest.mark.parametrize("rule", WITHOUT_SCIM, ids=lambda rule: f"{rule.method} {rule.path}")
def test_each_role_may_use_exactly_its_routes_of_the_table(
    granted: Client, rule: Rule, who: str | None
) -> None:
    headers = {}
    if who is not None:
        subject, groups, further = TOKENS[who]
        claims = granted.environment.issuer.claims(subject, *groups, **further)
        headers["authorization"] = (
            f"Bearer {granted.environment.issuer.sign({**claims, 'groups': list(groups)})}"
        )
    status = granted.http.request(rule.method, path_of(rule), headers=headers).status_code
    if rule.roles is PUBLIC:
        assert status in (200, 503)
    elif who is None:
        assert status == 401
    elif rule.roles and who not in rule.roles:
        assert status == 403
    else:  # the request was authorized
        assert status not in (401, 403, 405, 500)


def path_of(rule: Rule) -> str:
    """Return the path of a rule with parameters of which only the model exists."""
    names = dict.fromkeys(rule.pattern.groupindex, "x")
    return rule.path.format_map({**names, "model": "heart", "version": "3", "asset": "docs.js"})


def test_an_insufficient_role_is_named_in_the_error(client: Client) -> None:
    answer = client.get("/v1/grants")
    assert answer.status_code == 403
    assert answer.json()["detail"] == (
        "this requires the role admin; your token has user. Roles are read from the token's "
        "claim groups, which contains user"
    )
    assert "insufficient_scope" in answer.headers["www-authenticate"]


def test_a_group_named_service_makes_no_service_account(client: Client, issuer: Issuer) -> None:
    assert (
        client.get("/v1/me", issuer.token("eve", "service", client_id="eve")).json()["roles"] == []
    )


def test_a_decision_names_the_least_privileged_sufficient_role() -> None:
    rule, names = TABLE.match("POST", "/v2/models/heart/infer")
    assert names == {"model": "heart"}
    assert rule.roles == ALL
    assert rule.decision(frozenset({Role.ADMIN, Role.SCIENTIST})) == "predict:scientist"
    assert rule.decision(frozenset()) is None


def test_a_route_that_the_table_does_not_contain_is_404_or_405() -> None:
    for path in (
        "/",
        "/v1",
        "/v1/models/heart/",
        "/v2/repository/index",
        "/v2/models/a/b/infer",
        "/v1/models\n",
    ):
        with pytest.raises(NotFound):
            TABLE.match("GET", path)
    with pytest.raises(MethodNotAllowed, match="use POST"):
        TABLE.match("GET", "/v2/models/heart/infer")


def _all_routes(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """Yield all routes; FastAPI stores an included router as one route with the router."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            inner: APIRouter = route.original_router  # type: ignore[attr-defined]  # an unknown kind of route fails here
            yield from _all_routes(inner.routes)
