"""Carries out what ``reconcile`` decides. The embedded loop and kopf both call ``step``."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
from pydantic import ValidationError
from slipway_cluster import INFERENCE_SERVICE, MODEL, Cluster, Manifest, NotFound
from slipway_contract import labels
from slipway_contract.model import Model

from slipway_controller.inference_service import PASSED, Service, observed
from slipway_controller.reconcile import Action, Apply, Delete, Smoke, reconcile
from slipway_controller.registry import RegisteredVersion, Registry, RegistryError
from slipway_controller.smoke import predict_example

logger = logging.getLogger(__name__)

SMOKE_RETRY_SECONDS = 15.0
"""A smoke prediction that failed is tried again after this time: the cause may have been the network."""


class Controller:
    """One controller of all Models of a namespace. Its only memory, smoke outcomes, may be lost: they are made again."""

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

    def run(self, interval: float, stop: threading.Event) -> None:
        """Step through all Models until ``stop`` is set; one Model's trouble does not keep the others waiting."""
        while not stop.is_set():
            for manifest in self._cluster.list(MODEL):
                try:
                    self.step(manifest)
                except Exception:
                    logger.exception("could not reconcile model %s", manifest["metadata"]["name"])
            stop.wait(interval)

    def step(self, manifest: Manifest) -> None:
        """Bring one Model one step further."""
        try:
            model = Model.model_validate(manifest)
        except ValidationError as error:
            logger.warning("model %s is not valid: %s", manifest["metadata"]["name"], error)
            return
        plan = reconcile(model, self._wanted(model), self._services(model), self._now())
        for action in plan.actions:
            self._do(model, action)
        if plan.status != model.status:
            self._report(model, plan.status.manifest())

    def _wanted(self, model: Model) -> RegisteredVersion | RegistryError:
        try:
            return self._registry.by_alias(model.spec.registered_model, model.spec.alias)
        except RegistryError as error:
            return error

    def _services(self, model: Model) -> list[Service]:
        found = self._cluster.list(INFERENCE_SERVICE, {labels.MODEL: model.name})
        return [observed(manifest, self._smoke.get(manifest["metadata"]["name"], (0.0, None))[1]) for manifest in found]

    def _do(self, model: Model, action: Action) -> None:
        match action:
            case Apply(manifest):
                logger.info("%s: applying InferenceService %s", model.name, manifest["metadata"]["name"])
                self._cluster.apply(manifest)
            case Delete(name):
                logger.info("%s: removing InferenceService %s", model.name, name)
                self._cluster.delete(INFERENCE_SERVICE, name)
                self._smoke.pop(name, None)
            case Smoke(service, digest):
                self._try(model, service, digest)

    def _try(self, model: Model, service: Service, digest: str) -> None:
        tried, outcome = self._smoke.get(service.name, (0.0, None))
        if outcome is not None and time.monotonic() - tried < SMOKE_RETRY_SECONDS:
            return
        outcome = predict_example(self._predictors, service, digest)
        self._smoke[service.name] = (time.monotonic(), outcome)
        logger.log(
            logging.INFO if outcome == PASSED else logging.WARNING,
            "%s: smoke prediction of %s: %s",
            model.name,
            service.name,
            outcome,
        )

    def _report(self, model: Model, status: Manifest) -> None:
        for condition in status["conditions"]:
            before = next((c for c in model.status.conditions if c.type == condition["type"]), None)
            if before is None or (before.status, before.reason) != (condition["status"], condition["reason"]):
                logger.info("%s: %s=%s %s: %s", model.name, *(condition[k] for k in ("type", "status", "reason", "message")))
        try:
            self._cluster.update_status(MODEL, model.name, status)
        except NotFound:
            logger.info("%s: the Model was deleted meanwhile", model.name)
