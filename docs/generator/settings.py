"""Environment variables of all programs, from their pydantic-settings classes and the docstring
below each field.
"""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, AliasPath
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from docs.generator.markdown import kind, prose, table, value

ROOT = Path(__file__).parents[2]
ENVIRONMENT = "ENVIRONMENT"
MODULES = {
    "slipway_gateway.settings": (
        "Gateway and worker",
        "`python -m slipway_gateway serve`, `work` and `migrate`.",
    ),
    "slipway_controller.settings": ("Controller", "`python -m slipway_controller`."),
    "slipway_jobs.settings": ("Jobs", "`python -m slipway_jobs`."),
    "slipway_serving.settings": (
        "Predictors",
        "`slipway-serve` and `slipway-storage-initializer`.",
    ),
    "slipway_identity.settings": (
        "Identity provider",
        "`python -m slipway_identity` and the server of the provider.",
    ),
    "slipway_local.settings": ("Local stack", "`make up`."),
}
"""Modules with settings: the heading, and the programs that read them."""


def page() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        "Every program reads its settings from environment variables when it starts.",
    ]
    lines += [
        (
            "A program does not start with a variable that is missing or invalid; the message "
            "names the variable."
        )
    ]
    lines += ['A value of the type *JSON* is written as JSON, for example `["a", "b"]`.']
    lines += [f"`{ENVIRONMENT}` is the folder of the Python environment that runs the program."]
    for module, (title, programs) in MODULES.items():
        lines += ["", f"## {title}", "", f"Read by {programs}"]
        for each in classes(module):
            part = each.__name__.removesuffix("Settings") if len(classes(module)) > 1 else ""
            lines += [
                "",
                *([f"### {part}", ""] if part else []),
                prose(each.__doc__ or ""),
                "",
                *_table(each),
            ]
    return "\n".join(lines)


def classes(module: str) -> list[type[BaseSettings]]:
    """Return the settings classes that a module defines."""
    # The environment of serving is another one; its settings need no more than pydantic.
    if str(ROOT / "serving") not in sys.path:
        sys.path.append(str(ROOT / "serving"))
    found = vars(importlib.import_module(module)).values()
    return [
        each
        for each in found
        if isinstance(each, type) and issubclass(each, BaseSettings) and each.__module__ == module
    ]


def variable(settings: type[BaseSettings], name: str) -> str:
    """Return the environment variable of a field."""
    alias = settings.model_fields[name].validation_alias
    if isinstance(alias, (AliasChoices, AliasPath)):
        raise TypeError(
            f"{settings.__name__}.{name} has more than one variable, and this page has a row "
            "for one"
        )
    return alias or f"{settings.model_config.get('env_prefix', '')}{name}".upper()


def _table(settings: type[BaseSettings]) -> list[str]:
    """Return a row per field; those of a base class stand with that class."""
    schemas = settings.model_json_schema(by_alias=False)["properties"]
    return table(("variable", "type", "default", "meaning"), _rows(settings, schemas))


def _rows(
    settings: type[BaseSettings], schemas: dict[str, Any]
) -> Iterator[tuple[str, str, str, str]]:
    for name, field in settings.model_fields.items():
        if name in vars(settings).get("__annotations__", {}):
            meaning = prose(field.description or _inherited(settings, name))
            yield (
                f"`{variable(settings, name)}`",
                _kind(schemas[name]),
                _default(field, meaning),
                meaning,
            )


def _inherited(settings: type[BaseSettings], name: str) -> str:
    """Return the meaning of a field that a subclass only gives another default."""
    bases = (
        base
        for base in settings.__mro__[1:]
        if issubclass(base, BaseSettings) and name in base.model_fields
    )
    return next(bases).model_fields[name].description or ""


def _kind(schema: dict[str, Any]) -> str:
    """Return the type of a variable: lists and objects are JSON, and what may be null need not be
    set.
    """
    options = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    first = {key: each for key, each in {**schema, **options[0]}.items() if key != "anyOf"}
    if first.get("type") in ("array", "object"):
        return f"JSON {first['type']}"
    if first.get("format") == "password":
        return kind({**first, "type": "secret", "format": None})
    return kind(first)


def _default(field: FieldInfo, meaning: str) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is None:
        return "not set"
    if isinstance(default, Path):
        # Folders of this machine's Python are no part of a page.
        return value(str(default).replace(sys.prefix, ENVIRONMENT))
    if isinstance(default, (frozenset, set)):
        return value(sorted(default))
    return value(default) + (
        _bytes(default) if isinstance(default, int) and "byte" in meaning.lower() else ""
    )


def _bytes(number: int) -> str:
    """Return a number of bytes in the largest binary unit that divides it."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number and number % size == 0:
            return f" ({number // size} {unit})"
    return ""
