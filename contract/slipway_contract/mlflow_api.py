"""MLflow's REST API as Slipway reads it: paths, and the fields of a registered version.

Controller and storage initializer send the requests, each with errors and retries of its own:
decision 31. Source: MLflow 3, ``mlflow/server/handlers.py`` and ``mlflow/protos``.
"""

import json

from pydantic import BaseModel, ValidationError

from slipway_contract.registry import PROMOTION

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
"""The artifact proxy of the tracking server."""


class VersionTag(BaseModel):
    """A tag of a version."""

    key: str
    value: str = ""


class ModelVersion(BaseModel):
    """A version of a registered model, with the fields that Slipway reads."""

    version: str
    run_id: str | None = None
    tags: tuple[VersionTag, ...] = ()

    def tag(self, key: str) -> str | None:
        """Return the value of a tag; None when the version does not have it."""
        return next((tag.value for tag in self.tags if tag.key == key), None)

    def is_promoted(self, alias: str) -> bool:
        """Return whether a promotion has moved the alias to the version, now or earlier."""
        return any(
            alias == _alias_of(tag.value) for tag in self.tags if tag.key.startswith(PROMOTION)
        )


def _alias_of(promotion: str) -> object:
    try:
        record = json.loads(promotion)
    except ValueError:
        return None
    return record.get("alias") if isinstance(record, dict) else None


class _VersionResponse(BaseModel):
    model_version: ModelVersion


def model_version(response: object) -> ModelVersion:
    """Return the version in a response. Raises ValueError with a one-line problem."""
    try:
        return _VersionResponse.model_validate(response).model_version
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ValueError(f"{field}: {first['msg']}") from None
