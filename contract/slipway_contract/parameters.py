"""JSON Schema of the parameters of a training, which callers set as ``--set=NAME=VALUE``."""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

MAX_CHARACTERS = 16384
"""Maximum length of a schema as JSON: it is an annotation, and all of them have 256 KiB."""

_Kind = Literal["string", "integer", "number", "boolean", "null"]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]
_Length = Annotated[int, Field(ge=0)]


class _Schema(BaseModel):
    """Base of the schemas. As in JSON Schema, unknown keywords are allowed."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="allow", strict=True
    )

    title: str | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _is_inline(self) -> Self:
        if "$ref" in (self.model_extra or {}):
            raise ValueError("$ref is not resolved here; write the schema inline")
        return self


class _Parameter(_Schema):
    """Schema of one parameter, which is a text, a number or a boolean."""

    type: _Kind | list[_Kind] | None = None
    any_of: list["_Parameter"] | None = Field(default=None, min_length=1, max_length=16)
    one_of: list["_Parameter"] | None = Field(default=None, min_length=1, max_length=16)
    enum: list[str | float | bool | None] | None = Field(default=None, min_length=1, max_length=200)
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    multiple_of: float | None = Field(default=None, gt=0)
    min_length: _Length | None = None
    max_length: _Length | None = None
    pattern: str | None = None

    @field_validator("pattern")
    @classmethod
    def _is_an_expression(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{pattern!r:.80} is not a regular expression: {error}") from None
        return pattern


class _Parameters(_Schema):
    """Schema of all parameters."""

    type: Literal["object"] = "object"
    properties: dict[_Name, _Parameter] = Field(default_factory=dict, max_length=100)
    required: list[str] = Field(default_factory=list, max_length=100)
    additional_properties: Literal[False] = False

    @model_validator(mode="after")
    def _requires_its_own(self) -> Self:
        for name in self.required:
            if name not in self.properties:
                raise ValueError(f"required: {name!r:.80} is not among properties; add it there")
        return self


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(schema)) > MAX_CHARACTERS:
        raise ValueError(
            f"has more than {MAX_CHARACTERS} characters as JSON; shorten its descriptions"
        )
    try:
        _Parameters.model_validate(schema)
    except ValidationError as error:
        finding = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, finding["loc"]))
        problem = finding["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {problem}" if where else problem) from None
    return schema


ParametersSchema = Annotated[
    dict[str, Any],
    AfterValidator(_checked),
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""The schema as it was written."""
