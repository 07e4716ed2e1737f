"""Where the wanted version stands."""

from dataclasses import dataclass, field

from slipway_contract.model import Model

from slipway_controller.action import Action, Smoke
from slipway_controller.inference_service import Service
from slipway_controller.registry import RegisteredVersion, RegistryError


@dataclass(frozen=True)
class Verdict:
    """``passed`` means that the version may take traffic, ``failed`` that it will not by itself."""

    reason: str
    message: str
    passed: bool = False
    failed: bool = False
    actions: tuple[Action, ...] = field(default=())


def judge(model: Model, wanted: RegisteredVersion | RegistryError, by_version: dict[str, Service]) -> Verdict:
    """How far the wanted version has come."""
    if isinstance(wanted, RegistryError):
        return Verdict(wanted.reason, str(wanted), failed=True)
    name = f"version {wanted.version}"
    served = next((t for t in model.status.traffic if t.version == wanted.version), None)
    if served and served.digest != wanted.digest:
        text = f"{name} is served with {served.digest}, but the registry now says {wanted.digest}: register a new version instead"
        return Verdict("DigestChanged", text, failed=True)
    service = by_version.get(wanted.version)
    if service is None:
        return Verdict("Creating", f"{name} gets its InferenceService")
    if service.trouble:
        return Verdict(service.trouble.reason, f"{name}: {service.trouble.message}", failed=True)
    if not service.ready or not service.url:
        stage = f": {service.stage}" if service.stage else ""
        return Verdict("WaitingForPredictor", f"{name} is not ready yet{stage}")
    if served or service.passed:
        return Verdict("Serving", f"{name} answers", passed=True)
    smoke = Smoke(service, wanted.digest)
    if service.smoke:
        return Verdict("SmokePredictionFailed", f"{name}: {service.smoke}", failed=True, actions=(smoke,))
    return Verdict("SmokePrediction", f"{name} is ready; trying its example", actions=(smoke,))
