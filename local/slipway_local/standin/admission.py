"""Admission of the local cluster: validation before an object is stored."""

import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from slipway_cluster.interface import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CRON_JOB,
    ENDPOINT_SLICE,
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    JOB,
    LEASE,
    MODEL,
    Invalid,
    Kind,
    Manifest,
)
from slipway_contract.model import ModelStatus, admitted

from slipway_local.standin.serving import (
    InferenceServiceSpec,
    ServingRuntimeSpec,
    StorageContainerSpec,
)
from slipway_local.standin.workload import (
    CONFIG_MAP,
    DEPLOYMENT,
    SECRET,
    CronJobSpec,
    DeploymentSpec,
    JobSpec,
)

_STORED_ONLY = (ENDPOINT_SLICE, HORIZONTAL_POD_AUTOSCALER, LEASE, SECRET, CONFIG_MAP)
"""Kinds that the local cluster stores but does not run.

One process stands for all replicas, so there is nothing to scale. Containers refer to Secrets and
ConfigMaps.
"""

KINDS = {
    kind.name: kind
    for kind in (
        JOB,
        CRON_JOB,
        DEPLOYMENT,
        INFERENCE_SERVICE,
        CLUSTER_SERVING_RUNTIME,
        CLUSTER_STORAGE_CONTAINER,
        MODEL,
        *_STORED_ONLY,
    )
}

_SPECS: dict[Kind, type[BaseModel]] = {
    JOB: JobSpec,
    CRON_JOB: CronJobSpec,
    DEPLOYMENT: DeploymentSpec,
    INFERENCE_SERVICE: InferenceServiceSpec,
    CLUSTER_SERVING_RUNTIME: ServingRuntimeSpec,
    CLUSTER_STORAGE_CONTAINER: StorageContainerSpec,
}
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")


def kind_of(manifest: Manifest) -> Kind:
    """Return the kind of the object; raise Invalid when the local cluster does not support it."""
    kind = KINDS.get(manifest.get("kind", ""))
    if kind is None or manifest.get("apiVersion") != kind.api_version:
        raise Invalid(
            f"apiVersion, kind: {manifest.get('apiVersion')} {manifest.get('kind')} is not "
            "known here"
        )
    return kind


def name_of(manifest: Manifest) -> str:
    """Return the object's name; raise Invalid when it is not a DNS name."""
    name = manifest.get("metadata", {}).get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise Invalid(f"metadata.name: {name!r} is not a DNS name (a-z, 0-9, '-', '.')")
    return name


def admit(kind: Kind, manifest: Manifest, old: Manifest | None = None) -> None:
    """Raise Invalid, naming the field, when the schema or the local cluster rejects the object."""
    _check_strings(manifest, "labels")
    _check_strings(manifest, "annotations")
    if kind == MODEL:
        _check(manifest, lambda: admitted(manifest), ())
    elif kind not in _STORED_ONLY:
        _check(manifest, lambda: _SPECS[kind].model_validate(manifest.get("spec", {})), ("spec",))
    for field in ("template", "completionMode", "completions") if kind == JOB and old else ():
        if old and manifest["spec"].get(field) != old["spec"].get(field):
            raise Invalid(f"{_title(manifest)}: spec.{field}: field is immutable")


def admit_status(kind: Kind, manifest: Manifest) -> None:
    """Raise Invalid, naming the field, when the status breaks its schema.

    A field of a later release is stored unchanged.
    """
    if kind == MODEL:
        _check(manifest, lambda: ModelStatus.model_validate(manifest["status"]), ("status",))


def with_defaults(kind: Kind, manifest: Manifest) -> Manifest:
    """Return the object with the defaults that the API server writes into Jobs and CronJobs."""
    if kind not in (JOB, CRON_JOB):
        return manifest
    fields = _SPECS[kind].model_fields.values()
    defaults = {
        str(field.alias): field.default
        for field in fields
        if not field.is_required() and field.default is not None
    }
    return {**manifest, "spec": {**defaults, **manifest["spec"]}}


def _check(manifest: Manifest, validate: Callable[[], Any], prefix: tuple[str, ...]) -> None:
    try:
        validate()
    except ValidationError as error:
        problems = [
            f"{_path((*prefix, *each['loc']))}: {_problem(each['type'], each['msg'])}"
            for each in error.errors()
        ]
        raise Invalid(f"{_title(manifest)}: {'; '.join(problems)}") from None


def _check_strings(manifest: Manifest, field: str) -> None:
    for key, value in manifest["metadata"].get(field, {}).items():
        if not isinstance(value, str):
            raise Invalid(
                f"{_title(manifest)}: metadata.{field}[{key!r}]: {value!r} is not a string"
            )


def _path(location: tuple[str | int, ...]) -> str:
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location
    ).removeprefix(".")


def _problem(kind: str, message: str) -> str:
    return (
        "unknown field, or one that is not supported here"
        if kind == "extra_forbidden"
        else message.removeprefix("Value error, ")
    )


def _title(manifest: Manifest) -> str:
    return f"{manifest.get('kind')} {manifest['metadata'].get('name')}"
