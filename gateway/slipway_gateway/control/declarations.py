"""Declarations of Models under ``/v1``: create, replace, change and delete, as kubectl does.

The Model resource of the cluster is the only state. Its validation is that of the contract, and
fields that give rights of the platform are rejected unless the settings allow them.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from anyio import to_thread
from fastapi import Header, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from slipway_cluster.interface import MODEL, Cluster, ClusterError, Invalid, Manifest
from slipway_cluster.interface import Conflict as Changed
from slipway_cluster.interface import NotFound as Missing
from slipway_contract.errors import InvalidInput
from slipway_contract.model import API_VERSION, MODEL_NAME, Model, admitted
from slipway_contract.pod import is_reserved

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission
from slipway_gateway.access.trusted_fields import check_trusted
from slipway_gateway.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.inference.routing import Routes

T = TypeVar("T")
ATTEMPTS = 10
"""Writes of one request; the controller writes the status of the same object."""

MAX_DEPTH = 64
"""Levels of objects and lists in a body; each takes a call of the functions that read it."""


def _shallow(given: dict[str, Any]) -> dict[str, Any]:
    def check(value: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError(f"has more than {MAX_DEPTH} levels; nest it less deeply")
        if isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                check(each, depth + 1)

    check(given, 1)
    return given


_Object = Annotated[dict[str, Any], Field(max_length=100), AfterValidator(_shallow)]
_IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1000,
        description="`ETag` of the state that is to be changed; without it, any state",
    ),
]
_IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", max_length=1000, description="`*`: only create the Model"),
]
_EXAMPLE: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "Model",
    "metadata": {"name": "churn"},
    "spec": {"registeredModel": "churn", "owner": "team-a"},
}


class ModelBody(RequestSchema):
    """A Model, as in a file for `kubectl apply`; `status` is ignored."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    api_version: Literal["serving.slipway.dev/v1alpha1"] = "serving.slipway.dev/v1alpha1"
    kind: Literal["Model"] = "Model"
    metadata: _Object = Field(description="name, labels, annotations; others are ignored")
    spec: _Object = Field(description="fields of the Model resource")
    status: _Object | None = None


class ModelPatch(RequestSchema):
    """Changes of a Model as JSON Merge Patch (RFC 7396): null removes a field."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"spec": {"owner": "team-b"}}]}
    )

    metadata: _Object = Field(default_factory=dict, description="labels, annotations")
    spec: _Object = Field(default_factory=dict, description="fields of the Model resource")


class ModelResource(Schema):
    """A Model as the cluster stores it; its `ETag` is `metadata.resourceVersion`."""

    api_version: str
    kind: str
    metadata: dict[str, Any]
    spec: dict[str, Any]
    status: dict[str, Any] = Field(description="observed state; empty before the first one")


_CREATED: dict[int | str, dict[str, Any]] = {
    201: {"description": "The Model was created", "model": ModelResource}
}


class Declarations:
    """The routes that write Models.

    A caller needs the grant of the model, and that of each other Model that serves the same
    registered model: a second name would otherwise avoid the grants of the first.
    """

    def __init__(
        self,
        cluster: Cluster,
        routes: Routes,
        grants: GrantWatch,
        audit: Audit,
        trusted: Collection[str],
    ) -> None:
        """Create the routes; ``trusted`` are the trusted fields that callers may set."""
        self._cluster = cluster
        self._routes = routes
        self._grants = grants
        self._audit = audit
        self._trusted = trusted

    def router(self) -> Router:
        router = Router(prefix="/v1/models", responses=PROBLEMS, tags=["models"])
        write = Permission("declare", SCIENTIFIC, confirmed=True)
        router.add("POST", self.create_model, write, status_code=201, summary="Create a Model")
        router.add(
            "GET /{model}/declaration",
            self.get_model_declaration,
            Permission("declare", SCIENTIFIC),
            summary="Return a Model as the cluster stores it",
        )
        router.add(
            "PUT /{model}",
            self.replace_model,
            write,
            summary="Create or replace a Model",
            responses=_CREATED,
        )
        router.add(
            "PATCH /{model}",
            self.update_model,
            write,
            summary="Change fields of a Model",
        )
        router.add(
            "DELETE /{model}",
            self.delete_model,
            write,
            status_code=204,
            summary="Delete a Model; its traffic drains first",
        )
        return router

    async def create_model(
        self, body: ModelBody, context: CurrentContext, response: Response
    ) -> ModelResource:
        name = _validated(_authored(body.metadata, body.spec)).name
        self._grants.snapshot.get(context.caller, name, context.arrived, exists=False)

        def declared(old: Manifest | None) -> Manifest:
            if old is not None:
                raise Conflict(f"model {name} exists already; replace it by PUT /v1/models/{name}")
            return _authored(body.metadata, body.spec)

        return await self._written(context, name, declared, response)

    async def get_model_declaration(self, model: str, response: Response) -> ModelResource:
        found = await self._read(model)
        if found is None:
            raise NotFound(f"there is no model {model}")
        return _described(found, response)

    async def replace_model(
        self,
        model: str,
        body: ModelBody,
        context: CurrentContext,
        response: Response,
        if_match: _IfMatch = None,
        if_none_match: _IfNoneMatch = None,
    ) -> ModelResource:
        wanted = _named(model, _authored(body.metadata, body.spec))

        def declared(old: Manifest | None) -> Manifest:
            _check_conditions(model, old, if_match, if_none_match)
            if old and "rollback" in old["spec"]:
                # It belongs to an operation; a file that is applied again must not end it.
                return {**wanted, "spec": {"rollback": old["spec"]["rollback"]} | wanted["spec"]}
            return wanted

        return await self._written(context, model, declared, response)

    async def update_model(
        self,
        model: str,
        body: ModelPatch,
        context: CurrentContext,
        response: Response,
        if_match: _IfMatch = None,
    ) -> ModelResource:
        def declared(old: Manifest | None) -> Manifest:
            _check_conditions(model, old, if_match)
            if old is None:
                raise NotFound(f"there is no model {model}; create it by PUT /v1/models/{model}")
            metadata = merged(_authored(old["metadata"], {})["metadata"], body.metadata)
            return _named(model, _authored(metadata, merged(old["spec"], body.spec)))

        return await self._written(context, model, declared, response)

    async def delete_model(
        self, model: str, context: CurrentContext, if_match: _IfMatch = None
    ) -> None:
        for _ in range(ATTEMPTS):
            old = await self._read(model)
            _check_conditions(model, old, if_match)
            if old is None:
                raise NotFound(f"there is no model {model}")
            if "deletionTimestamp" in old["metadata"]:
                return
            version = old["metadata"]["resourceVersion"]
            try:
                async with self._audit.noted(
                    context, "model.delete", f"models/{model}", old["spec"]
                ):
                    await called(partial(self._cluster.delete, MODEL, model, version=version))
            except Changed:
                continue
            return
        raise changes_too_often(model)

    async def _written(
        self,
        context: RequestContext,
        name: str,
        declared: Callable[[Manifest | None], Manifest],
        response: Response,
    ) -> ModelResource:
        """Write what ``declared`` returns for the stored Model, unless that is the same.

        Raises what ``declared`` raises, RequestValidationError, InvalidInput, Forbidden, Conflict,
        Unavailable.
        """
        for _ in range(ATTEMPTS):
            old = await self._read(name)
            new = declared(old)
            model = _validated(new)
            if old and "deletionTimestamp" in old["metadata"]:
                raise Conflict(f"model {name} is being deleted; wait until its traffic has drained")
            check_trusted(new["spec"], old["spec"] if old else {}, self._trusted)
            self._check_source(context, model)
            if old and _is_same(old, new, model):
                return _described(old, response)
            if old:
                new = _kept(old, new)
            write = self._cluster.replace if old else self._cluster.create
            action = "model.replace" if old else "model.create"
            try:
                async with self._audit.noted(context, action, f"models/{name}", new["spec"]):
                    stored = await called(partial(write, new))
            except (Changed, Missing):
                continue
            if old is None:
                response.status_code = 201
                response.headers["location"] = f"/v1/models/{name}"
            return _described(stored, response)
        raise changes_too_often(name)

    def _check_source(self, context: RequestContext, model: Model) -> None:
        """Raise Forbidden for a registered model that another Model without a grant serves."""
        source = model.spec.registered_model
        for name, route in self._routes.snapshot.items():
            if (
                name != model.name
                and route.model.spec.registered_model == source
                and not self._grants.snapshot.find(context.caller, name, context.arrived)
            ):
                raise Forbidden(
                    f"spec.registeredModel: {source} is served by a model that is not granted to "
                    "you; ask an admin for its grant, or name another registered model"
                )

    async def _read(self, name: str) -> Manifest | None:
        """Return the stored Model, or None. A name of another form is never part of a URL."""
        if not re.fullmatch(MODEL_NAME, name):
            return None
        try:
            return await called(partial(self._cluster.get, MODEL, name))
        except Missing:
            return None


def _authored(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> Manifest:
    """Return the Model without what the cluster, the controller and tools write."""
    own = {key: metadata[key] for key in ("name",) if key in metadata}
    for field in ("labels", "annotations"):
        given = metadata.get(field)
        if given is None:
            continue
        if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
            raise InvalidInput(f"metadata.{field}", "is no object of texts; send text values")
        if kept := {key: value for key, value in given.items() if not is_reserved(key)}:
            own[field] = kept
    return {"apiVersion": API_VERSION, "kind": "Model", "metadata": own, "spec": dict(spec)}


def _kept(old: Manifest, new: Manifest) -> Manifest:
    """Return the new Model with all other metadata of the old one, such as its finalizers."""
    metadata = dict(old["metadata"])
    for field in ("labels", "annotations"):
        reserved = {key: v for key, v in metadata.pop(field, {}).items() if is_reserved(key)}
        if found := {**new["metadata"].get(field, {}), **reserved}:
            metadata[field] = found
    return {**new, "metadata": metadata}


def _named(name: str, manifest: Manifest) -> Manifest:
    """Return the manifest with the name of the path. Raises InvalidInput for another name."""
    given = manifest["metadata"].setdefault("name", name)
    if given != name:
        problem = f"{given!r:.80} is not the model of the path; send {name[:80]}, or omit it"
        raise InvalidInput("metadata.name", problem)
    return manifest


def _validated(manifest: Manifest) -> Model:
    """Return the Model as `kubectl apply` would admit it. Raises RequestValidationError."""
    try:
        return admitted(manifest)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from None


def _is_same(old: Manifest, new: Manifest, model: Model) -> bool:
    """Return True when a write would change nothing; the cluster adds defaults to the stored one.

    A stored Model that is invalid now is never the same.
    """
    former = _authored(old["metadata"], old["spec"])
    try:
        return former["metadata"] == new["metadata"] and admitted(former).spec == model.spec
    except ValidationError:
        return False


def merged(target: Any, patch: Any) -> Any:
    """Return the target after a JSON Merge Patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _tag(manifest: Manifest) -> str:
    return f'"{manifest["metadata"]["resourceVersion"]}"'


def _check_conditions(
    name: str, found: Manifest | None, if_match: str | None, if_none_match: str | None = None
) -> None:
    """Evaluate the preconditions (RFC 9110, section 13). Raises PreconditionFailed."""
    if if_match is not None and not _matches(if_match, found):
        state = f"its ETag is {_tag(found)}" if found else "it does not exist"
        raise PreconditionFailed(
            f"If-Match: {if_match[:80]} is not the current state of model {name}; {state}: read "
            f"GET /v1/models/{name}/declaration and try again"
        )
    if if_none_match is not None and _matches(if_none_match, found):
        raise PreconditionFailed(f"If-None-Match: model {name} exists; send If-Match to replace it")


def _matches(header: str, found: Manifest | None) -> bool:
    if found is None:
        return False
    return header.strip() == "*" or _tag(found) in (each.strip() for each in header.split(","))


def _described(manifest: Manifest, response: Response) -> ModelResource:
    response.headers["etag"] = _tag(manifest)
    hidden = ("managedFields", "finalizers", "ownerReferences")
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in hidden}
    return ModelResource(
        api_version=manifest["apiVersion"],
        kind=manifest["kind"],
        metadata=metadata,
        spec=manifest["spec"],
        status=manifest.get("status", {}),
    )


def changes_too_often(name: str) -> Conflict:
    """Return the error of a write that failed in all ATTEMPTS."""
    return Conflict(f"model {name} was changed by others during each of {ATTEMPTS} tries; retry")


async def called(call: Callable[[], T]) -> T:
    """Call the cluster in a thread.

    Raises Missing, Changed, InvalidInput with the words of the API server, Unavailable.
    """
    try:
        return await to_thread.run_sync(call)
    except (Missing, Changed):
        raise
    except Invalid as error:
        raise InvalidInput("body", str(error)) from None
    except (ClusterError, OSError) as error:
        raise Unavailable("the cluster does not answer, or does not permit the change") from error
