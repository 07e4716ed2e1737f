"""Executor of the plans of ``reconcile``; the local loop and kopf call it for each Model."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import ValidationError
from slipway_cluster import (
    CRON_JOB,
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    MODEL,
    Cluster,
    ClusterError,
    Conflict,
    Manifest,
    NotFound,
)
from slipway_contract import labels
from slipway_contract.model import Model, ModelStatus, training_name

from slipway_controller.action import Action, Adopt, Apply, Delete, MoveAlias, Smoke
from slipway_controller.adoption import TEMPLATE, adoption_of
from slipway_controller.conditions import degraded
from slipway_controller.diagnosis import Diagnosis, diagnosis_of, stage_of
from slipway_controller.events import ModelEvent, events
from slipway_controller.inference_service import PASSED, Service, observed, replacement_of
from slipway_controller.reconcile import ReconcilePlan, reconcile
from slipway_controller.registry import RegisteredVersion, Registry, RegistryError, Unpinned
from slipway_controller.rollback import TEMPLATE as PROMOTION_TEMPLATE
from slipway_controller.rollback import (
    ObservedAlias,
    active,
    failure,
    observed_alias,
    rollback_jobs,
)
from slipway_controller.smoke import predict_example
from slipway_controller.training import TEMPLATE as TRAINING_TEMPLATE
from slipway_controller.training import ObservedTraining

logger = logging.getLogger(__name__)

SMOKE_RETRY_SECONDS = 15.0
"""Time before a failed smoke prediction is retried: its cause may have been the network."""

PODLESS_SECONDS = 15
"""Time in which KServe normally creates the pods of an InferenceService."""


class Controller:
    """Controller of all Models of a namespace.

    Its only state is the outcomes of smoke predictions, and which pods were replaced; a new process
    repeats these. Several threads may reconcile different Models at the same time.
    """

    def __init__(
        self,
        cluster: Cluster,
        registry: Registry,
        predictors: httpx.Client,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._registry = registry
        self._predictors = predictors
        self._now = now
        self._smoke: dict[str, tuple[float, str]] = {}
        self._settled: dict[str, tuple[str, int]] = {}
        self._replaced: set[str] = set()

    def reconcile_model(self, name: str) -> ModelStatus | None:
        """Execute the next step for the Model and return its status.

        Return None when the Model does not exist, or when its deletion is complete.
        """
        try:
            manifest = self._cluster.get(MODEL, name)
        except NotFound:
            return None
        try:
            model = Model.model_validate(manifest)
        except ValidationError as error:
            return self._reject(manifest, error)
        wanted, alias = self._wanted(model)
        adoption = (
            adoption_of(self._cluster, model, wanted) if isinstance(wanted, Unpinned) else None
        )
        services, autoscalers = self._services(model), self._autoscalers(model)
        training = self._training(model)

        def planned(training: ObservedTraining) -> ReconcilePlan:
            now = self._now()
            return reconcile(model, wanted, services, now, autoscalers, adoption, training, alias)

        plan = planned(training)
        if refused := self._execute_training(model, plan):
            plan = planned(replace(training, refused=refused))
        plan = self._execute(model, plan)
        self._report(manifest, model.status, plan.status, plan.events)
        self._remove_ended(manifest, model, plan.status)
        return None if plan.over else plan.status

    def _wanted(self, model: Model) -> tuple[RegisteredVersion | RegistryError, ObservedAlias]:
        """Return the version that is to serve, and that of the alias."""
        jobs = rollback_jobs(self._cluster, model)
        version: str | None = None
        stale = False
        found: RegisteredVersion | RegistryError
        try:
            found = self._registry.by_alias(model.spec.registered_model, model.spec.alias)
            version = found.version
        except Unpinned as error:
            found, version = error, error.version
        except RegistryError as error:
            found = error
            if stale := error.reason == "RegistryUnreachable":
                version = model.status.alias_version
        alias = observed_alias(self._cluster, model, jobs, version, stale=stale)
        rollback = active(model, alias)
        if rollback:
            found = failure(model, rollback) or self._former(model, rollback.version)
        serving = {target.version for target in model.status.traffic}
        if (
            isinstance(found, RegistryError)
            or found.promoted
            or not model.spec.gate.required
            or found.version in serving
        ):
            return found, alias
        message = (
            f"version {found.version} of spec.rollback was never promoted, which "
            "spec.gate.required demands; promote the version"
            if rollback
            else f"the alias {model.spec.alias} was moved to version {found.version} without a "
            "promotion, which spec.gate.required demands; promote the version"
        )
        return RegistryError("PromotionMissing", message), alias

    def _former(self, model: Model, version: str) -> RegisteredVersion | RegistryError:
        """Return the version of a rollback.

        A version that is kept has its digest in the status, so that a rollback does not need the
        registry.
        """
        name = model.spec.registered_model
        try:
            return self._registry.by_number(name, version, model.spec.alias)
        except RegistryError as error:
            kept = next((t for t in model.status.traffic if t.version == version), None)
            if kept and error.reason == "RegistryUnreachable":
                return RegisteredVersion(name, version, kept.digest, kept.run_id)
            return error

    def _services(self, model: Model) -> list[Service]:
        found = self._cluster.list(INFERENCE_SERVICE, {labels.MODEL: model.name})
        services = [
            observed(manifest, self._smoke.get(manifest["metadata"]["name"], (0.0, None))[1])
            for manifest in found
        ]
        return [
            self._compared_with_pods(service)
            if service.ready
            else service
            if service.diagnosis
            else self._diagnosed(service)
            for service in services
        ]

    def _autoscalers(self, model: Model) -> list[Manifest]:
        return self._cluster.list(HORIZONTAL_POD_AUTOSCALER, {labels.MODEL: model.name})

    def _training(self, model: Model) -> ObservedTraining:
        own = {labels.MODEL: model.name, labels.MANAGED_BY: labels.FIELD_MANAGER}
        owned = self._cluster.list(CRON_JOB, own)
        if model.spec.training is None or model.spec.training.job is None:
            return ObservedTraining(owned)
        name = training_name(model.name)
        exists = any(each["metadata"]["name"] == name for each in owned)
        taken = not exists and self._cron_job(name) is not None
        return ObservedTraining(owned, self._cron_job(TRAINING_TEMPLATE), taken)

    def _cron_job(self, name: str) -> Manifest | None:
        try:
            return self._cluster.get(CRON_JOB, name)
        except NotFound:
            return None

    def _diagnosed(self, service: Service) -> Service:
        """Add a diagnosis to a service that is not ready.

        The diagnosis comes from the pods; without pods, from the Events of the InferenceService.
        """
        try:
            pods = self._cluster.pods(INFERENCE_SERVICE, service.name)
            diagnosis = diagnosis_of(pods, self._now()) if pods else self._podless(service)
        except ClusterError as error:
            logger.warning("%s: the cluster did not return its pods: %s", service.name, error)
            return service  # only the explanation depends on the pods
        container = diagnosis.silent if diagnosis else None
        if diagnosis and container and (line := self._last_log_line(service, container)):
            message = f"{diagnosis.message}; its last log line: {line}"
            diagnosis = replace(diagnosis, message=message)
        return replace(service, diagnosis=diagnosis, stage=stage_of(pods))

    def _compared_with_pods(self, service: Service) -> Service:
        """Add the replacement of the pods to a service that is ready.

        KServe reports such a service as ready and loaded even when the new pods never start. The
        pods are read until all are those of the current generation.
        """
        metadata = service.manifest["metadata"]
        state = (metadata.get("uid", ""), metadata.get("generation", 0))
        if self._settled.get(service.name) != state:
            try:
                pods = self._cluster.pods(INFERENCE_SERVICE, service.name)
            except ClusterError as error:
                logger.warning("%s: the cluster did not return its pods: %s", service.name, error)
                return service
            if replacement := replacement_of(service.manifest, pods, self._now()):
                self._replaced.add(service.name)
                self._smoke.pop(service.name, None)
                return replace(service, replacement=replacement, smoke=None)
            self._settled[service.name] = state
        return replace(service, replaced=service.name in self._replaced)

    def _podless(self, service: Service) -> Diagnosis | None:
        age = self._now() - datetime.fromisoformat(
            service.manifest["metadata"]["creationTimestamp"]
        )
        warnings = [e for e in self._cluster.events(service.manifest) if e["type"] == "Warning"]
        if age < timedelta(seconds=PODLESS_SECONDS) or not warnings:
            return None
        return Diagnosis("PodsNotCreated", f"{warnings[-1]['reason']}: {warnings[-1]['message']}")

    def _last_log_line(self, service: Service, container: str) -> str:
        try:
            log = self._cluster.logs(INFERENCE_SERVICE, service.name, container=container)
            lines = [line for line in log if line.strip()]
        except ClusterError:
            return ""  # the pod was deleted meanwhile
        return lines[-1].strip()[:300] if lines else ""

    def _execute_training(self, model: Model, plan: ReconcilePlan) -> str:
        """Execute the actions on the CronJob; return why the cluster rejects one, else nothing."""
        try:
            for action in plan.training:
                self._execute_action(model, action)
        except ClusterError as error:
            logger.warning("%s: the cluster rejects its training: %s", model.name, error)
            return str(error)
        return ""

    def _execute(self, model: Model, plan: ReconcilePlan) -> ReconcilePlan:
        """Execute all actions; when the cluster rejects one, set only the condition Degraded."""
        for action in plan.actions:
            try:
                self._execute_action(model, action)
            except ClusterError as error:
                status = degraded(model.status, "ClusterRefused", str(error), self._now())
                return ReconcilePlan((), status, events(model.status, status))
        return plan

    def _execute_action(self, model: Model, action: Action) -> None:
        match action:
            case Apply(manifest, drift):
                name = f"{manifest['kind']} {manifest['metadata']['name']}"
                logger.info(
                    "%s: applying %s%s", model.name, name, f", which {drift}" if drift else ""
                )
                self._cluster.apply(manifest)
            case Delete(kind, name):
                logger.info("%s: removing %s %s", model.name, kind.name, name)
                self._cluster.delete(kind, name)
                self._smoke.pop(name, None)
                self._settled.pop(name, None)
                self._replaced.discard(name)
            case Smoke(service, digest):
                self._smoke_predict(model, service, digest)
            case Adopt(job, registered_model, version):
                logger.info("%s: starting Job %s", model.name, job)
                with suppress(Conflict):  # the Job exists already
                    self._cluster.create_job(TEMPLATE, name=job, args=[registered_model, version])
            case MoveAlias():
                self._move_alias(model, action)

    def _move_alias(self, model: Model, move: MoveAlias) -> None:
        """Start the Job; the traffic does not depend on it, so a failure is only logged."""
        logger.info("%s: starting Job %s", model.name, move.job)
        try:
            self._cluster.create_job(
                PROMOTION_TEMPLATE,
                name=move.job,
                args=move.args,
                env={"SLIPWAY_ACTOR": labels.CONTROLLER},
                labels={labels.PURPOSE: "promotion", labels.MODEL: model.name},
                annotations={
                    labels.SUBMITTED_BY: labels.CONTROLLER,
                    labels.SUBMITTED: self._now().isoformat(),
                    labels.REQUEST: move.request,
                },
            )
        except Conflict:
            pass  # the Job exists already
        except ClusterError as error:
            logger.warning("%s: Job %s was not created: %s", model.name, move.job, error)

    def _smoke_predict(self, model: Model, service: Service, digest: str) -> None:
        tried, outcome = self._smoke.get(service.name, (0.0, None))
        if outcome is not None and time.monotonic() - tried < SMOKE_RETRY_SECONDS:
            return
        outcome = predict_example(self._predictors, service, digest)
        self._smoke[service.name] = (time.monotonic(), outcome)
        if outcome == PASSED:
            self._replaced.discard(service.name)
        level = logging.INFO if outcome == PASSED else logging.WARNING
        logger.log(level, "%s: smoke prediction of %s: %s", model.name, service.name, outcome)

    def _remove_ended(self, manifest: Manifest, model: Model, status: ModelStatus) -> None:
        """Remove the field of a rollback that has ended, after the status has its end.

        The field would begin again in a cluster without that status, such as a restored one.
        """
        declared, known = model.spec.rollback, status.rollback
        if not (declared and known and known.is_final and declared.is_same(known)):
            return
        logger.info("%s: removing spec.rollback: %s", model.name, known.message)
        try:
            self._cluster.remove_field(MODEL, model.name, "rollback", manifest["spec"]["rollback"])
        except ClusterError as error:
            logger.warning("%s: spec.rollback was not removed: %s", model.name, error)

    def _reject(self, manifest: Manifest, error: ValidationError) -> ModelStatus:
        """Report the error of an invalid spec in the status; leave the traffic unchanged."""
        finding = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in finding["loc"])
        before = ModelStatus.model_validate(manifest.get("status", {}))
        problem = finding["msg"].removeprefix("Value error, ")
        status = degraded(before, "InvalidSpec", f"{where}: {problem}", self._now())
        self._report(manifest, before, status, events(before, status))
        return status

    def _report(
        self,
        manifest: Manifest,
        before: ModelStatus,
        after: ModelStatus,
        new_events: tuple[ModelEvent, ...],
    ) -> None:
        name = manifest["metadata"]["name"]
        try:
            if after != before:
                self._cluster.update_status(MODEL, name, after.manifest())
        except NotFound:
            logger.info("%s: the Model was deleted meanwhile", name)
            return
        # Record Events after the status: the next reconciliation compares with the written status,
        # so each Event is recorded once.
        for event in new_events:
            level = logging.WARNING if event.warning else logging.INFO
            logger.log(level, "%s: %s: %s", name, event.reason, event.message)
            try:
                self._cluster.record(
                    manifest, reason=event.reason, message=event.message, warning=event.warning
                )
            except ClusterError as error:
                logger.warning("%s: the cluster did not record an Event: %s", name, error)
