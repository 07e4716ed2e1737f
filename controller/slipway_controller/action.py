"""Actions of the controller on the cluster."""

from dataclasses import dataclass

from slipway_cluster import Kind, Manifest

from slipway_controller.inference_service import Service


@dataclass(frozen=True)
class Apply:
    """Create an object of a Model, or restore its desired state."""

    manifest: Manifest
    drift: str = ""
    """How the object differs from its desired state; empty when it is created for the first time.
    """


@dataclass(frozen=True)
class Delete:
    """Remove an object that the Model does not need any more."""

    kind: Kind
    name: str


@dataclass(frozen=True)
class Smoke:
    """Send the version's own example to its predictor."""

    service: Service
    digest: str


@dataclass(frozen=True)
class Adopt:
    """Start the Job that pins a version which was logged by hand."""

    job: str
    registered_model: str
    version: str


@dataclass(frozen=True)
class MoveAlias:
    """Start the Job that moves the alias to the version of a rollback."""

    job: str
    args: tuple[str, ...]
    request: str
    """The promotion as JSON, as the API lists it."""


Action = Apply | Delete | Smoke | Adopt | MoveAlias
