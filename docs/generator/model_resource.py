"""Fields of the custom resource ``Model``, from the definition that the chart installs."""

from collections.abc import Iterator
from typing import Any

from slipway_contract.crd import crd

from docs.generator.markdown import kind, prose, table, value


def page() -> str:
    """Return the page of the resource's fields."""
    definition = crd()["spec"]
    (version,) = definition["versions"]
    schema, names = version["schema"]["openAPIV3Schema"], definition["names"]
    lines = ["# Model resource", "", prose(schema["description"]), ""]
    lines += [
        (
            f"`apiVersion: {definition['group']}/{version['name']}`, `kind: {names['kind']}`, "
            f"{definition['scope'].lower()}."
        )
    ]
    lines += [
        (
            "kubectl accepts the names "
            f"{', '.join(f'`{each}`' for each in (names['plural'], *names['shortNames']))}."
        )
    ]
    for part in ("spec", "status"):
        inner = schema["properties"][part]
        lines += ["", f"## {part}", "", prose(inner.get("description", "")), ""]
        lines += table(
            ("field", "type", "required, or default", "meaning"), _rows(inner, f"{part}.")
        )
    columns = [
        (
            each["name"],
            f"`{each['jsonPath']}`",
            "`--output=wide`" if each.get("priority") else "always",
        )
        for each in version["additionalPrinterColumns"]
    ]
    lines += ["", "## Columns of kubectl", "", *table(("column", "field", "shown"), columns)]
    return "\n".join(lines)


def fields(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield path, schema and necessity of each field below an object, ``[]`` for the items of an
    array.
    """
    for name, each in schema.get("properties", {}).items():
        yield f"{prefix}{name}", each, name in schema.get("required", [])
        yield from fields(each, f"{prefix}{name}.")
        yield from fields(each.get("items", {}), f"{prefix}{name}[].")
        if isinstance(inner := each.get("additionalProperties"), dict):
            yield from fields(inner, f"{prefix}{name}.*.")


def _rows(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for path, each, required in fields(schema, prefix):
        default = "yes" if required else value(each["default"]) if "default" in each else "–"
        yield f"`{path}`", _kind(each), default, prose(each.get("description", ""))


def _kind(schema: dict[str, Any]) -> str:
    """Return the type; the fields of an object stand in rows of their own."""
    items = schema.get("items", {})
    plain = {**schema, "items": {"type": "object"}} if "properties" in items else schema
    return kind(plain) + (", or null" if schema.get("nullable") else "")
