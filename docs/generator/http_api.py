"""Routes of the gateway, from their permissions and from the OpenAPI document."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from slipway_gateway.access.rules import PUBLIC, Rule, Spending

from docs.generator.gateway import gateway
from docs.generator.markdown import fields, kind, prose, table

Json = dict[str, Any]

OUTSIDE = {
    "/v1/openapi.json": (
        "Return the OpenAPI document; with a token also a path for each granted model"
    ),
    "/v1/docs": "Show the OpenAPI document in Swagger UI",
    "/v1/docs/login": "Complete the login of that page",
    "/v1/docs/{asset}": "Return a script or a style sheet of that page",
}
"""Summaries of the routes that the OpenAPI document leaves out."""


def page() -> str:
    """Return the page of all routes and schemas."""
    with gateway() as served:
        document, rules = served.api.openapi(), served.table.rules
    schemas = document["components"]["schemas"]
    lines = [
        "# HTTP API",
        "",
        (
            "The gateway serves these routes. A path that is not here is answered with 404, "
            "another method with 405."
        ),
    ]
    lines += [
        "A running gateway describes them at `/v1/docs`, with the inputs of each granted model."
    ]
    lines += [
        (
            "Errors below `/v1` have the type `application/problem+json` and the schema "
            "[Problem](#problem): 400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503 or 504."
        )
    ]
    lines += [
        (
            "Errors below `/v2` have the same status codes and the body of the protocol, "
            '`{"error": …}`.'
        )
    ]
    lines += [
        "[The gateway](gateway.md) describes limits, images, lookups and caching.",
        "",
        "## Routes",
        "",
    ]
    lines += table(
        ("route", "permission", "summary"), (_overview(rule, document) for rule in rules)
    )
    for name, group in groupby(sorted(rules, key=_order), lambda rule: _group(rule.path)):
        lines += ["", f"## {name}"]
        for rule in group:
            lines += ["", f"### {rule.method} {rule.path}", "", *_route(rule, document)]
    lines += ["", "## Schemas"]
    for name in sorted(schemas):
        lines += ["", f"### {name}", "", *_schema(schemas[name])]
    return "\n".join(lines)


def _group(path: str) -> str:
    parts = path.strip("/").split("/")
    return f"/{'/'.join(parts[: 2 if parts[0] in ('v1', 'v2') else 1])}"


def _order(rule: Rule) -> tuple[bool, str]:
    """Sort by group, the probes last."""
    return not rule.path.startswith("/v"), _group(rule.path)


def _overview(rule: Rule, document: Json) -> tuple[str, str, str]:
    return f"`{rule.method} {rule.path}`", _permission(rule), _summary(rule, document)


def _operation(rule: Rule, document: Json) -> Json | None:
    """Return the operation of a route, with the references to parameters and responses resolved."""
    path: Json = document["paths"].get(rule.path, {})
    operation: Json | None = path.get(rule.method.lower())
    if operation is None:
        return None
    parameters = [*path.get("parameters", []), *operation.get("parameters", [])]
    return {
        **operation,
        "parameters": [_resolved(each, document) for each in parameters],
        "responses": {
            status: _resolved(each, document) for status, each in operation["responses"].items()
        },
    }


def _resolved(each: Json, document: Json) -> Json:
    if "$ref" not in each:
        return each
    _, kind_of_component, name = each["$ref"].removeprefix("#/").split("/")
    found: Json = document["components"][kind_of_component][name]
    return found


def _summary(rule: Rule, document: Json) -> str:
    operation = _operation(rule, document)
    return str(operation["summary"]) if operation else OUTSIDE[rule.path]


def _permission(rule: Rule) -> str:
    if rule.roles is PUBLIC:
        return "public"
    who = ", ".join(f"`{role}`" for role in sorted(rule.roles)) if rule.roles else "any valid token"
    return f"{who}, with a grant of the model" if "{model}" in rule.path else who


def _route(rule: Rule, document: Json) -> Iterator[str]:
    """Yield the lines about one route."""
    yield f"{_summary(rule, document)}."
    yield ""
    yield f"- Permission `{rule.name}`: {_permission(rule)}."
    if rule.confirmed:
        yield "- The identity provider confirms the role at the time of the request."
    if rule.spends is None:
        yield "- Rate: none."
    elif rule.spends is not Spending.REQUEST:
        yield f"- Rate: `{rule.spends}`."
    operation = _operation(rule, document)
    if operation is None:
        return
    yield from _responses(operation["responses"])
    yield from _bodies(operation.get("requestBody", {}).get("content", {}))
    if operation.get("description"):
        yield from ("", prose(operation["description"]))
    if parameters := operation.get("parameters"):
        yield ""
        yield from table(
            ("parameter", "in", "type", "meaning"), (_parameter(each) for each in parameters)
        )


def _responses(responses: Json) -> Iterator[str]:
    for code in sorted(responses):
        if code != "default":
            types = [
                f"`{name}`{_named(content)}"
                for name, content in responses[code].get("content", {}).items()
            ]
            yield f"- Response {code}{': ' if types else ''}{', '.join(types)}."


def _named(content: Json) -> str:
    schema = content.get("schema", {})
    return f" {kind(schema)}" if "$ref" in schema or "items" in schema else ""


def _bodies(content: Json) -> Iterator[str]:
    for name, each in content.items():
        schema = each["schema"]
        yield f"- Body `{name}`{': ' + kind(schema) if '$ref' in schema else ''}."
        if "properties" in schema:
            yield from (
                "",
                *([prose(schema["description"]), ""] if "description" in schema else []),
                *fields(schema),
                "",
            )


def _parameter(parameter: Json) -> tuple[str, str, str, str]:
    schema = parameter["schema"]
    options = {
        **schema,
        "anyOf": [each for each in schema.get("anyOf", []) if each.get("type") != "null"],
    }
    if isinstance(schema.get("type"), list):
        options["type"] = schema["type"][0]
    where = parameter["in"] + (
        ", required" if parameter.get("required") and parameter["in"] != "path" else ""
    )
    return f"`{parameter['name']}`", where, kind(options), prose(parameter.get("description", ""))


def _schema(schema: Json) -> Iterator[str]:
    if "description" in schema:
        yield from (prose(schema["description"]), "")
    yield from fields(schema) or [f"Type: {kind(schema)}."]
