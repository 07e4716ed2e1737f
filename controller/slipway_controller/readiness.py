"""Readiness assessment of the wanted version."""

from dataclasses import dataclass, field

from slipway_contract.model import Model, TrafficRole, TrafficTarget

from slipway_controller.action import Action, Adopt, Smoke
from slipway_controller.adoption import TEMPLATE, Adoption, job_name
from slipway_controller.inference_service import Service
from slipway_controller.registry import RegisteredVersion, RegistryError, Unpinned


@dataclass(frozen=True)
class Readiness:
    """Assessment of the wanted version.

    ``passed``: the version may take traffic. ``failed``: it will not without a change, or its pods
    cannot be replaced and the former ones answer.
    """

    reason: str
    message: str
    passed: bool = False
    failed: bool = False
    replacing: bool = False
    """True while the pods of a version that serves are replaced."""
    actions: tuple[Action, ...] = field(default=())


def assess_readiness(
    model: Model,
    wanted: RegisteredVersion | RegistryError,
    by_version: dict[str, Service],
    adoption: Adoption | None = None,
) -> Readiness:
    """Assess how far the wanted version has come."""
    if isinstance(wanted, Unpinned) and adoption:
        return _unpinned(model, wanted, adoption)
    if isinstance(wanted, RegistryError):
        return Readiness(wanted.reason, str(wanted), failed=True)
    name = f"version {wanted.version}"
    served = next((t for t in model.status.traffic if t.version == wanted.version), None)
    if served and served.digest != wanted.digest:
        text = (
            f"{name} is served with {served.digest}, but the registry now has {wanted.digest}: "
            "register a new version instead"
        )
        return Readiness("DigestChanged", text, failed=True)
    service = by_version.get(wanted.version)
    if service is None:
        return Readiness("Creating", f"{name} gets its InferenceService")
    if service.diagnosis:
        return Readiness(
            service.diagnosis.reason, f"{name}: {service.diagnosis.message}", failed=True
        )
    if not service.ready or not service.url:
        stage = f": {service.stage}" if service.stage else ""
        return Readiness("WaitingForPredictor", f"{name} is not ready yet{stage}")
    smoke = Smoke(service, wanted.digest)
    if served:
        return _served(name, served, service, smoke)
    if service.passed:
        return Readiness("Serving", f"{name} answers", passed=True)
    if service.smoke:
        return Readiness(
            "SmokePredictionFailed", f"{name}: {service.smoke}", failed=True, actions=(smoke,)
        )
    return Readiness("SmokePrediction", f"{name} is ready; trying its example", actions=(smoke,))


def _served(name: str, target: TrafficTarget, service: Service, smoke: Smoke) -> Readiness:
    """Assess a version with a place in the traffic, which it keeps while its pods are replaced.

    Changed pods that have not answered the example get no more traffic than they have. A rollback
    does not wait: the former pods of its version answer.
    """
    steady = target.role is not TrafficRole.CANARY
    if service.replacement and (diagnosis := service.replacement.diagnosis):
        text = f"{name} answers from its former pods; the changed ones: {diagnosis.message}"
        return Readiness(diagnosis.reason, text, passed=steady, failed=True)
    if service.replacement:
        text = f"{name} answers while its pods are replaced: {service.replacement.stage}"
        return Readiness("ReplacingPods", text, passed=steady, replacing=True)
    if not service.replaced:
        return Readiness("Serving", f"{name} answers", passed=True)
    if service.smoke and not service.passed:
        text = f"the changed pods of {name} do not answer its example: {service.smoke}"
        return Readiness("SmokePredictionFailed", text, failed=True, actions=(smoke,))
    text = f"the pods of {name} were replaced; trying its example"
    return Readiness("SmokePrediction", text, replacing=True, actions=(smoke,))


def _unpinned(model: Model, wanted: Unpinned, adoption: Adoption) -> Readiness:
    job = job_name(model, wanted.version)
    match adoption.state:
        case "due" | "running":
            actions = (Adopt(job, wanted.name, wanted.version),) if adoption.state == "due" else ()
            return Readiness(
                "Adopting",
                f"version {wanted.version} was logged by hand; Job {job} packages it",
                actions=actions,
            )
        case "failed":
            why = adoption.message or "see its log"
            return Readiness(
                "AdoptionFailed",
                f"version {wanted.version}: {why} (Job {job}; delete it to try again)",
                failed=True,
            )
        case "impossible":
            remedy = f"run python -m slipway_jobs adopt {wanted.name} {wanted.version}"
            return Readiness(
                wanted.reason,
                f"{wanted}, and there is no CronJob {TEMPLATE} to pin it; {remedy}",
                failed=True,
            )
