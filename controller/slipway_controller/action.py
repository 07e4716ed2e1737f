"""What the controller can do in the world."""

from dataclasses import dataclass

from slipway_cluster import Kind, Manifest

from slipway_controller.inference_service import Service


@dataclass(frozen=True)
class Apply:
    """Create an object of a version, or bring it back to what it should be."""

    manifest: Manifest
    drift: str = ""
    """What someone else did to it; empty when it is made for the first time."""


@dataclass(frozen=True)
class Delete:
    """Remove an object of a version that no traffic needs."""

    kind: Kind
    name: str


@dataclass(frozen=True)
class Smoke:
    """Make one prediction with the version's own example."""

    service: Service
    digest: str


@dataclass(frozen=True)
class Adopt:
    """Start the Job that pins a version which was logged by hand."""

    job: str
    registered_model: str
    version: str


Action = Apply | Delete | Smoke | Adopt
