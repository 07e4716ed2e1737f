"""Parts of Kubernetes objects as types."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Resource(BaseModel):
    """Part of a Kubernetes object: camelCase in JSON, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def manifest(self) -> dict[str, Any]:
        """Return Kubernetes JSON without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
