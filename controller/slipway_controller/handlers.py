"""kopf handlers: changes in the cluster trigger reconciliations. No other module imports ``kopf``.

kopf watches the resources, runs a task for each Model, and holds the finalizer; ``reconcile`` makes
all decisions. Two features of kopf are disabled: Events for log lines, because they are too many,
and annotations with the last handled state, because no handler reads them.
"""

import asyncio
import logging
import os
import signal
import socket
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from secrets import token_hex
from typing import Any

import kopf
from slipway_cluster import (
    CRON_JOB,
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    MODEL,
    Cluster,
    ClusterError,
    Kind,
)
from slipway_contract import labels

from slipway_controller.controller import Controller
from slipway_controller.health import Health
from slipway_controller.lease import Lease

logger = logging.getLogger(__name__)

FINALIZER = f"{labels.GROUP}/drain"
_PLURALS = {
    MODEL: "models",
    INFERENCE_SERVICE: "inferenceservices",
    HORIZONTAL_POD_AUTOSCALER: "horizontalpodautoscalers",
    CRON_JOB: "cronjobs",
}
_OURS = {labels.MANAGED_BY: labels.FIELD_MANAGER}


class Operator:
    """Operator of all Models of one namespace; each Model has its own task."""

    def __init__(
        self, controller: Controller, cluster: Cluster, health: Health, interval: float
    ) -> None:
        self._controller = controller
        self._health = health
        self._interval = interval
        self._lease = Lease(cluster, f"{socket.gethostname()}_{token_hex(4)}")
        self._wakes: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, namespace: str) -> bool:
        """Acquire the lease and reconcile; return True after a signal, False after losing it."""
        beating = asyncio.create_task(self._beat())
        if not await self._acquired():
            return True
        lost = asyncio.Event()
        keeping = asyncio.create_task(self._keep(lost))
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=_settings(),
                namespaces=[namespace],
                standalone=True,
            )
        finally:
            self._health.leading.set(0)
            for task in (beating, keeping):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            with suppress(ClusterError):
                await asyncio.to_thread(self._lease.release)
        return not lost.is_set()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        kopf.on.event(*_resource(MODEL), registry=registry)(self._model_changed)
        for kind in (INFERENCE_SERVICE, HORIZONTAL_POD_AUTOSCALER, CRON_JOB):
            kopf.on.event(*_resource(kind), labels=_OURS, registry=registry)(
                self._dependant_changed
            )
        kopf.daemon(*_resource(MODEL), registry=registry, cancellation_backoff=5)(self._follow)
        kopf.on.delete(*_resource(MODEL), registry=registry)(self._drain)
        return registry

    async def _model_changed(self, name: str, type: str | None, **_: Any) -> None:
        self._wakes[name].set()
        if type == "DELETED":
            del self._wakes[name]

    async def _dependant_changed(self, meta: Mapping[str, Any], **_: Any) -> None:
        if name := meta.get("labels", {}).get(labels.MODEL):
            self._wakes[name].set()

    async def _follow(self, name: str, stopped: kopf.DaemonStopped, **_: Any) -> None:
        """Reconcile a Model when one of its objects changes, and at least every ``interval``."""
        while not stopped:
            await self._reconcile(name)
            await self._pause(name, stopped)

    async def _drain(self, name: str, **_: Any) -> None:
        """Reconcile a deleted Model until its deletion is complete; kopf removes the finalizer."""
        while await self._reconcile(name):
            await self._pause(name)
        self._locks.pop(name, None)

    async def _reconcile(self, name: str) -> bool:
        """Reconcile once; return True when another reconciliation is needed, as after an error."""
        async with self._locks[name]:
            self._wakes[name].clear()
            try:
                with self._health.timed(name):
                    status = await asyncio.to_thread(self._controller.reconcile_model, name)
            except Exception:
                logger.exception("could not reconcile model %s", name)
                return True
            self._health.show(name, status)
            return status is not None

    async def _pause(self, name: str, stopped: kopf.DaemonStopped | None = None) -> None:
        """Wait for a change of the Model, for ``stopped``, or for ``interval`` seconds."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self._wakes[name].wait())]
        if stopped is not None:
            waits.append(asyncio.create_task(_wait(stopped)))
        try:
            await asyncio.wait(waits, timeout=self._interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _beat(self) -> None:
        while True:
            self._health.beat()
            await asyncio.sleep(1)

    async def _acquired(self) -> bool:
        """Return True once this process holds the lease, False when a signal stops it before."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)  # kopf replaces these handlers later
        while not await self._held():
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await stopped.wait()
            if stopped.is_set():
                return False
        logger.info("leading in this namespace")
        self._health.leading.set(1)
        return True

    async def _keep(self, lost: asyncio.Event) -> None:
        """Renew the lease; stop the process before another one may take it."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while loop.time() - renewed < self._lease.seconds * 2 / 3:
            await asyncio.sleep(self._lease.seconds / 5)
            if await self._held():
                renewed = loop.time()
        logger.error("the lease was lost; stopping")
        lost.set()
        # Not kopf's stop_flag: kopf does not end the task that waits for it, and exits 5 s later.
        signal.raise_signal(signal.SIGTERM)

    async def _held(self) -> bool:
        try:
            return await asyncio.to_thread(self._lease.hold)
        except ClusterError as error:
            logger.warning("the lease cannot be renewed: %s", error)
            return False


async def _wait(stopped: kopf.DaemonStopped) -> None:
    await stopped.wait()


class _EmptyDiffBaseStorage(kopf.DiffBaseStorage):
    """Storage without content: ``reconcile`` compares the desired state with the cluster."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = FINALIZER
    settings.persistence.diffbase_storage = _EmptyDiffBaseStorage()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=labels.GROUP)
    settings.posting.enabled = False
    settings.scanning.disabled = True  # needs no permissions on namespaces and CRDs
    settings.background.cancellation_polling = 1
    return settings


def _resource(kind: Kind) -> tuple[str, str, str]:
    group, version = kind.api_version.split("/")
    return group, version, _PLURALS[kind]


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return kopf.login_with_service_account(**arguments)
    return kopf.login_with_kubeconfig(**arguments)
