"""Fields of a Model that give rights of the platform.

Who may write a Model by kubectl is trusted with them. Over HTTP they are rejected, unless the
setting lists them: a caller is not to run programs, use other service accounts or get Secrets by
an injector, with rights that the caller does not have.
"""

from collections.abc import Collection, Mapping
from typing import Any

from slipway_contract.errors import InvalidInput

TRUSTED_FIELDS = (
    "allowFormats",
    "predictor.runtime",
    "predictor.format",
    "predictor.serviceAccountName",
    "predictor.priorityClassName",
    "predictor.podLabels",
    "predictor.podAnnotations",
    "predictor.affinity",
    "predictor.tolerations",
    "training.template",
    "training.job",
)
"""Paths below ``spec``. Artifacts with code; Secrets of a runtime or of an injector, which labels
and annotations address; the loader of a runtime; identities; preemption of other pods, and places
from which they are kept away; reserved nodes; any Job of the namespace; any program with the
account that writes to the registry.
"""
_OF_THE_SOURCE = TRUSTED_FIELDS[:7]
"""Those that apply to the files of the registered model."""
_WITH_RUNTIME = "predictor.env"
"""Trusted while a runtime is set: its variables may choose its code."""


def check_trusted(
    spec: Mapping[str, Any], former: Mapping[str, Any], allowed: Collection[str]
) -> None:
    """Raise InvalidInput for a trusted field that is set or changed and is not allowed.

    An unchanged or removed field is accepted. While one of them remains that applies to the files
    of the registered model, that model remains too.
    """
    kept = []
    has_runtime = _at(spec, "predictor.runtime") and "predictor.runtime" not in allowed
    for path in (*TRUSTED_FIELDS, *([_WITH_RUNTIME] if has_runtime else [])):
        value = _at(spec, path)
        # A job without fields is a Job, too.
        if path in allowed or value is None or (value in ([], {}) and path != "training.job"):
            continue
        if value != _at(former, path):
            raise InvalidInput(
                f"spec.{path}",
                "gives rights of the platform and cannot be set over HTTP; set it by kubectl, or "
                f"let an operator add {path} to SLIPWAY_TRUSTED_MODEL_FIELDS",
            )
        kept.append(path)
    source = former.get("registeredModel")
    bound = next((path for path in kept if path in _OF_THE_SOURCE), None)
    if bound and spec.get("registeredModel") != source:
        raise InvalidInput(
            "spec.registeredModel",
            f"cannot be changed over HTTP while the Model has {bound}, which was set for {source}; "
            f"remove {bound}, or change it by kubectl",
        )


def _at(spec: Mapping[str, Any], path: str) -> Any:
    """Return the value at the path; None without one."""
    found: Any = spec
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
