"""The access table of the gateway: the roles that may use each route."""

from slipway_gateway.access.rules import PUBLIC, Rule
from slipway_gateway.identity.roles import Role

from docs.generator.gateway import gateway
from docs.generator.markdown import table


def page() -> str:
    """Return the page of permissions."""
    with gateway() as served:
        rules = served.table.rules
    lines = [
        "# Permissions",
        "",
        "Each route declares its permission, and the gateway rejects every other route.",
        "A path with `{model}` also requires a [grant](gateway.md#access) of the model.",
        "The log and the receipt of a request contain the permission and the role that allowed it.",
        "A *confirmed* role is one that the identity provider confirms at the time of the request.",
        "",
        *table(("permission", "route", *Role, "confirmed"), map(_row, rules)),
    ]
    return "\n".join(lines)


def _row(rule: Rule) -> tuple[str, ...]:
    def allows(role: Role) -> str:
        if rule.roles is PUBLIC:
            return "public"
        if not rule.roles:
            return "any token"
        return "yes" if role in rule.roles else ""

    route = f"`{rule.method} {rule.path}`"
    confirmed = "yes" if rule.confirmed else ""
    return f"`{rule.name}`", route, *map(allows, Role), confirmed
