"""Client of the MLflow registry: versions by alias or number, and their tags.

It sends two kinds of requests to MLflow's REST API with httpx: the mlflow package would add 150 MiB
to a process that runs beside every cluster's other controllers.
"""

from dataclasses import dataclass

import httpx
from slipway_contract.mlflow_api import API, model_version
from slipway_contract.registry import Tag

ROLLBACK_FAILED = "RollbackFailed"
"""Reason of a version by number that does not exist; only rollbacks name versions."""

MISSING = (b"RESOURCE_DOES_NOT_EXIST", b"INVALID_PARAMETER_VALUE")
"""Error codes in MLflow's responses for an object that does not exist."""


class RegistryError(Exception):
    """The registry returned no usable version.

    ``reason`` is a condition's CamelCase reason, ``str()`` its message.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Unpinned(RegistryError):
    """The version has no digest: it was logged by hand."""

    def __init__(self, name: str, version: str) -> None:
        super().__init__("DigestMissing", f"version {version} of {name} has no tag {Tag.DIGEST}")
        self.name = name
        self.version = version


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model, with the fields that serving needs."""

    name: str
    version: str
    digest: str
    run_id: str | None = None
    promoted: bool = True
    """False: its alias was moved to it without a promotion, so no gate has passed it."""


class Registry:
    """Read-only client of the registry."""

    def __init__(self, client: httpx.Client) -> None:
        """Wrap a client that has the tracking server as base URL, and credentials if needed."""
        self._client = client

    def by_alias(self, name: str, alias: str) -> RegisteredVersion:
        """Return the version of the alias.

        Raises RegistryError; Unpinned when the version has no digest.
        """
        missing = RegistryError(
            "AliasNotFound",
            f"the registry has no name {name}, alias {alias}: train and promote a version",
        )
        query = {"name": name, "alias": alias}
        return self._version("registered-models/alias", query, alias, missing)

    def by_number(self, name: str, version: str, alias: str) -> RegisteredVersion:
        """Return a version; it was promoted if a promotion has moved the alias to it.

        Raises RegistryError; Unpinned when the version has no digest.
        """
        missing = RegistryError(
            ROLLBACK_FAILED,
            f"the registry has no name {name}, version {version}: name a version that exists",
        )
        query = {"name": name, "version": version}
        return self._version("model-versions/get", query, alias, missing)

    def _version(
        self, path: str, query: dict[str, str], alias: str, missing: RegistryError
    ) -> RegisteredVersion:
        response = self._get(path, query, missing)
        try:
            found = model_version(response.json())
        except ValueError as error:
            raise RegistryError(
                "RegistryUnreachable", f"MLflow returned no version: {error}"
            ) from error
        name, digest = query["name"], found.tag(Tag.DIGEST) or ""
        if not digest.startswith("sha256:"):
            raise Unpinned(name, found.version)
        promoted = found.is_promoted(alias)
        return RegisteredVersion(name, found.version, digest, found.run_id or None, promoted)

    def _get(self, path: str, query: dict[str, str], missing: RegistryError) -> httpx.Response:
        """Return the response; raise ``missing`` when the object does not exist."""
        try:
            response = self._client.get(f"{API}/{path}", params=query)
        except httpx.TransportError as error:
            raise RegistryError(
                "RegistryUnreachable", f"MLflow does not answer: {error}"
            ) from error
        # A proxy returns 404, too, while MLflow is not there.
        if any(code in response.content for code in MISSING):
            raise missing
        if response.status_code == httpx.codes.FORBIDDEN:
            # MLflow returns 403, too, when a registered model that the account may read is missing.
            raise RegistryError(
                "AliasNotFound",
                f"the registry has no {query['name']} that this account may read: train a version",
            )
        if response.is_error:
            raise RegistryError("RegistryUnreachable", f"MLflow answered {response.status_code}")
        return response
