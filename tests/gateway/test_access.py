"""The access table: complete, and deny by default."""

from collections.abc import Iterable, Iterator

import pytest
from fastapi import APIRouter
from slipway_gateway.access import ALL, PUBLIC, RULES, Role, Rule, match
from slipway_gateway.errors import MethodNotAllowed, NotFound
from starlette.routing import BaseRoute, Route

from tests.gateway.house import Visitor
from tests.gateway.issuer import Issuer

PUBLIC_PATHS = {"/v2", "/v2/health/live", "/v2/health/ready", "/v1/openapi.json", "/v1/docs", "/livez", "/readyz"}


def test_every_route_has_a_rule_and_every_rule_a_route(visitor: Visitor) -> None:
    routes = set(visitor.gateway.application.v2.handlers)
    found = _all_routes(visitor.gateway.control.router.routes)
    routes |= {(method, route.path) for route in found for method in route.methods or () if method != "HEAD"}
    assert routes == {(rule.method, rule.path) for rule in RULES}


def test_openapi_tells_of_no_route_without_a_rule(visitor: Visitor) -> None:
    paths = visitor.get("/v1/openapi.json", who=None).json()["paths"]
    told = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert told == {(r.method, r.path) for r in RULES if not r.path.startswith("/v2") and r.name != "openapi"}


def test_only_these_paths_ask_for_no_token() -> None:
    assert {rule.path for rule in RULES if rule.roles is PUBLIC} == PUBLIC_PATHS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.method} {rule.path}")
def test_a_stranger_sees_nothing_but_what_is_public(visitor: Visitor, rule: Rule) -> None:
    path = (
        rule.path.format_map({"model": "heart", "version": "3", "request_id": "x", "job": "x"}) if "{" in rule.path else rule.path
    )
    answer = visitor.client.request(rule.method, path)
    assert (answer.status_code == 401) is (rule.roles is not PUBLIC)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.roles], ids=lambda rule: f"{rule.method} {rule.path}")
def test_a_token_without_a_role_is_answered_403(visitor: Visitor, issuer: Issuer, rule: Rule) -> None:
    path = rule.path.format_map({"model": "heart", "version": "3", "request_id": "x", "job": "x"})
    answer = visitor.client.request(rule.method, path, headers={"authorization": f"Bearer {issuer.token('eve', 'choir')}"})
    assert answer.status_code == 403
    assert "insufficient_scope" in answer.headers["www-authenticate"]


def test_a_rule_names_the_role_that_let_the_caller_in() -> None:
    rule, names = match("POST", "/v2/models/heart/infer")
    assert names == {"model": "heart"}
    assert rule.roles == ALL
    assert rule.decision(frozenset({Role.ADMIN, Role.SCIENTIST})) == "predict:scientist"
    assert rule.decision(frozenset()) is None


def test_what_is_not_in_the_table_is_not_there() -> None:
    for path in ("/", "/v1", "/v1/models/heart/", "/v2/repository/index", "/v2/models/a/b/infer", "/v1/models\n"):
        with pytest.raises(NotFound):
            match("GET", path)
    with pytest.raises(MethodNotAllowed, match="use POST"):
        match("GET", "/v2/models/heart/infer")


def _all_routes(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """FastAPI keeps an included router as one route that holds the router."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:
            inner: APIRouter = route.original_router  # type: ignore[attr-defined]  # an unknown kind of route fails here
            yield from _all_routes(inner.routes)
