"""The access table of a gateway with all planes and SCIM, for tests of each route."""

from docs.generator.gateway import gateway

with gateway() as _complete:
    TABLE = _complete.table
RULES = TABLE.rules
WITHOUT_SCIM = [rule for rule in RULES if rule.name not in ("manage-users", "leave")]
"""Rules of the routes that exist without SCIM, too."""
