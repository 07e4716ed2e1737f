"""The base of the schemas under ``/v1``: camelCase JSON, described for OpenAPI."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from slipway_contract.body import CallerBody


class Schema(BaseModel):
    """A model with camelCase names in JSON."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )


class RequestSchema(Schema, CallerBody):
    """The body of a request."""


class Problem(Schema):
    """An error response as problem details (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, str]] | None = None
