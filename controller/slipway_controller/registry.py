"""The door to the MLflow registry: which version has an alias, and what its tags say.

Two calls of MLflow's REST API over httpx: the mlflow package would add 150 MiB to a process that
lives beside every cluster's other controllers.
"""

from dataclasses import dataclass
from typing import Any

import httpx
from slipway_contract.registry import Tag


class RegistryError(Exception):
    """The registry has no usable answer; ``reason`` is a condition's CamelCase word, ``str()`` its
    message.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Unpinned(RegistryError):
    """The version bears no digest: it was logged by hand."""

    def __init__(self, name: str, version: str) -> None:
        super().__init__("DigestMissing", f"version {version} of {name} has no tag {Tag.DIGEST}")
        self.name = name
        self.version = version


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model, as far as serving cares."""

    name: str
    version: str
    digest: str
    run_id: str | None = None


class Registry:
    """Reads aliases; writes nothing."""

    def __init__(self, client: httpx.Client) -> None:
        """``client`` has the tracking server as its base URL, and credentials if it needs any."""
        self._client = client

    def by_alias(self, name: str, alias: str) -> RegisteredVersion:
        """The version that bears the alias. Raises RegistryError; Unpinned when it cannot be served
        as it is.
        """
        found = self._get("registered-models/alias", {"name": name, "alias": alias})[
            "model_version"
        ]
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
        digest = tags.get(Tag.DIGEST, "")
        if not digest.startswith("sha256:"):
            raise Unpinned(name, found["version"])
        return RegisteredVersion(name, found["version"], digest, found.get("run_id") or None)

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        try:
            answer = self._client.get(f"/api/2.0/mlflow/{path}", params=query)
        except httpx.TransportError as error:
            raise RegistryError(
                "RegistryUnreachable", f"MLflow does not answer: {error}"
            ) from error
        if (
            answer.status_code == httpx.codes.NOT_FOUND
            or b"INVALID_PARAMETER_VALUE" in answer.content
        ):
            wanted = ", ".join(f"{key} {value}" for key, value in query.items())
            raise RegistryError(
                "AliasNotFound", f"the registry has no {wanted}: train and promote a version"
            )
        if answer.status_code == httpx.codes.FORBIDDEN:
            # MLflow answers so, too, when a registered model that the account would be allowed to
            # read is not there.
            raise RegistryError(
                "AliasNotFound",
                f"the registry has no {query['name']} that this account may read: train a version",
            )
        if answer.is_error:
            raise RegistryError("RegistryUnreachable", f"MLflow answered {answer.status_code}")
        body: dict[str, Any] = answer.json()
        return body
