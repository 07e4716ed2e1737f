"""A real cluster, through the official client. No other module of Slipway imports ``kubernetes``.

The kinds are few and known, so their URLs are constants: no discovery, hence no permissions for it
and no cache file.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from slipway_contract.labels import FIELD_MANAGER

from slipway_cluster.apply import intent
from slipway_cluster.clock import utc_now
from slipway_cluster.event import event_on, last_seen
from slipway_cluster.interface import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CRON_JOB,
    ENDPOINT_SLICE,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    JOB,
    LEASE,
    MODEL,
    POD,
    ClusterError,
    Conflict,
    Invalid,
    Kind,
    Manifest,
    NotFound,
    WatchEvent,
)
from slipway_cluster.job import manual_job, representative_pod

_PLURALS = {
    JOB: "jobs",
    CRON_JOB: "cronjobs",
    INFERENCE_SERVICE: "inferenceservices",
    CLUSTER_SERVING_RUNTIME: "clusterservingruntimes",
    CLUSTER_STORAGE_CONTAINER: "clusterstoragecontainers",
    MODEL: "models",
    ENDPOINT_SLICE: "endpointslices",
    HORIZONTAL_POD_AUTOSCALER: "horizontalpodautoscalers",
    LEASE: "leases",
    POD: "pods",
    EVENT: "events",
}
_KINDS = {kind.name: kind for kind in _PLURALS}
_POD_LABELS = {
    JOB: "batch.kubernetes.io/job-name",
    INFERENCE_SERVICE: "serving.kserve.io/inferenceservice",
}
_CALL_TIMEOUT = (5.0, 30.0)
"""Seconds to connect, and to wait for the response."""
_WATCH_SECONDS = 240
"""Duration of one watch request; the next one continues where it ended."""
_RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class KubernetesCluster:
    """A ``Cluster`` on one namespace of a real cluster."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._dynamic = DynamicClient(api, discoverer=lambda *_: None)  # type: ignore[no-untyped-call]

    @classmethod
    def from_environment(cls, namespace: str) -> "KubernetesCluster":
        """Connect with the pod's service account, else with the kubeconfig.

        Raises ClusterError when there is neither.
        """
        settings = client.Configuration()
        try:
            config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            try:
                config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            except config.ConfigException as error:
                raise ClusterError(f"neither in a pod nor with a kubeconfig: {error}") from None
        return cls(client.ApiClient(settings), namespace)

    def apply(self, manifest: Manifest) -> Manifest:
        kind = _kind_of(manifest)
        body = intent(manifest)
        if version := manifest["metadata"].get("resourceVersion"):
            body["metadata"]["resourceVersion"] = version
        # Kubernetes advises controllers to force conflicts over the fields that they own.
        return self._call(
            "patch",
            self._path(kind, body["metadata"].get("name")),
            body=body,
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
            query_params=[("fieldValidation", "Strict")],
        )

    def create(self, manifest: Manifest) -> Manifest:
        return self._write("post", self._path(_kind_of(manifest)), intent(manifest))

    def replace(self, manifest: Manifest) -> Manifest:
        path = self._path(_kind_of(manifest), manifest["metadata"]["name"])
        return self._write("put", path, manifest)

    def _write(self, method: str, path: str, body: Manifest) -> Manifest:
        strict = [("fieldValidation", "Strict")]
        return self._call(method, path, body=body, field_manager=FIELD_MANAGER, query_params=strict)

    def get(self, kind: Kind, name: str) -> Manifest:
        return self._call("get", self._path(kind, name))

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or None
        return _items(kind, self._call("get", self._path(kind), label_selector=selector))

    def delete(self, kind: Kind, name: str, *, version: str | None = None) -> None:
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions"}
        options["propagationPolicy"] = "Background"
        if version is not None:
            options["preconditions"] = {"resourceVersion": version}
        try:
            self._call("delete", self._path(kind, name), body=options)
        except NotFound:
            return

    def update_status(self, kind: Kind, name: str, status: Mapping[str, Any]) -> Manifest:
        # "add" also replaces: one call without a preceding read.
        operations = [{"op": "add", "path": "/status", "value": dict(status)}]
        return self._call(
            "patch",
            f"{self._path(kind, name)}/status",
            body=operations,
            content_type="application/json-patch+json",
            field_manager=FIELD_MANAGER,
        )

    def remove_field(self, kind: Kind, name: str, field: str, value: Any) -> Manifest:
        path = f"/spec/{field}"
        operations = [
            {"op": "test", "path": path, "value": value},
            {"op": "remove", "path": path},
        ]
        try:
            return self._call(
                "patch",
                self._path(kind, name),
                body=operations,
                content_type="application/json-patch+json",
                field_manager=FIELD_MANAGER,
            )
        except Invalid as error:  # a failed test is 422
            raise Conflict(f"spec.{field} of {kind.name} {name} was changed: {error}") from None

    def suspend(self, cron_job: str, suspended: bool) -> Manifest:
        return self._call(
            "patch",
            self._path(CRON_JOB, cron_job),
            body={"spec": {"suspend": suspended}},
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )

    def create_job(
        self,
        cron_job: str,
        *,
        name: str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Manifest:
        template, name = self.get(CRON_JOB, cron_job), name or f"{cron_job}-{token_hex(3)}"
        job = manual_job(
            template, name, args, env or {}, labels=labels or {}, annotations=annotations or {}
        )
        return self._call("post", self._path(JOB), body=job, field_manager=FIELD_MANAGER)

    def watch(self, kind: Kind, *, timeout: float | None = None) -> Iterator[WatchEvent]:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        known: dict[str, Manifest] = {}
        first = True
        while first or time.monotonic() < deadline:
            try:
                listing = self._call("get", self._path(kind))
            except ClusterError as error:
                if first:
                    raise
                log.warning("watch of %s: %s", kind.name, error)
                time.sleep(min(_RETRY_SECONDS, max(0.0, deadline - time.monotonic())))
                continue
            first = False
            yield from _relisted(known, _items(kind, listing))
            yield from self._follow(kind, known, listing["metadata"]["resourceVersion"], deadline)

    def logs(
        self, kind: Kind, name: str, *, container: str | None = None, follow: bool = False
    ) -> Iterator[str]:
        owner = self.get(kind, name)
        pod = self._newest_pod(kind, owner)
        if pod is None and not follow:
            raise NotFound(f"{kind.name} {name} has no pod yet")
        return self._log_lines(kind, owner, pod, container, follow=follow)

    def pods(self, kind: Kind, name: str) -> Sequence[Manifest]:
        selector = f"{_POD_LABELS[kind]}={name}"
        return _by_age(_items(POD, self._call("get", self._path(POD), label_selector=selector)))

    def record(self, about: Manifest, *, reason: str, message: str, warning: bool = False) -> None:
        event = event_on(about, reason, message, warning=warning, now=utc_now())
        try:
            self._call("post", self._path(EVENT), body=event, field_manager=FIELD_MANAGER)
        except Conflict:
            path = self._path(EVENT, event["metadata"]["name"])
            again = {
                "count": self._call("get", path).get("count", 1) + 1,
                "lastTimestamp": event["lastTimestamp"],
            }
            self._call(
                "patch",
                path,
                body=again,
                content_type="application/merge-patch+json",
                field_manager=FIELD_MANAGER,
            )

    def events(self, about: Manifest) -> Sequence[Manifest]:
        selector = f"involvedObject.uid={about['metadata']['uid']}"
        return sorted(
            _items(EVENT, self._call("get", self._path(EVENT), field_selector=selector)),
            key=last_seen,
        )

    def _follow(
        self, kind: Kind, known: dict[str, Manifest], version: str, deadline: float
    ) -> Iterator[WatchEvent]:
        """Yield changes after ``version``, until the deadline or until a new listing is necessary.

        A new listing is necessary after status 410 and after a lost connection.
        """
        while (remaining := deadline - time.monotonic()) > 0:
            seconds = math.ceil(min(_WATCH_SECONDS, remaining))
            try:
                for event in self._events(kind, version, seconds, min(seconds + 15.0, remaining)):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield _recorded(known, event)
            except (_Gone, urllib3.exceptions.HTTPError, ClusterError) as reason:
                if (remaining := deadline - time.monotonic()) > 0:
                    log.info("watch of %s restarts: %s", kind.name, reason)
                    time.sleep(min(_RETRY_SECONDS, remaining))
                return

    def _events(
        self, kind: Kind, version: str, seconds: int, patience: float
    ) -> Iterator[Manifest]:
        """Yield the events of one watch request; raise _Gone, ClusterError, HTTPError."""
        query = [
            ("watch", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", seconds),
            ("allowWatchBookmarks", "true"),
        ]
        for line in self._lines(self._path(kind), query, patience):
            event: Manifest = json.loads(line)
            if event["type"] == "ERROR":
                raise _Gone(event["object"].get("message", "expired"))
            yield event

    def _log_lines(
        self,
        kind: Kind,
        owner: Manifest,
        pod: Manifest | None,
        container: str | None,
        *,
        follow: bool,
    ) -> Iterator[str]:
        while pod is None:
            time.sleep(_RETRY_SECONDS)
            try:
                self.get(kind, owner["metadata"]["name"])
            except NotFound:
                return
            pod = self._newest_pod(kind, owner)
        names = [
            each["name"]
            for each in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", []))
        ]
        if container is not None and container not in names:
            raise NotFound(
                f"no container {container!r} in {pod['metadata']['name']}; there are "
                f"{', '.join(names)}"
            )
        wanted, path = container or names[0], self._path(POD, pod["metadata"]["name"])
        # Before a container has started, its log is empty if the pod has no node yet,
        # and an error otherwise.
        with _errors(), suppress(Invalid, NotFound):
            while follow and not _has_started(self._call("get", path), wanted):
                time.sleep(_RETRY_SECONDS)
            yield from self._lines(
                f"{path}/log", [("container", wanted), ("follow", str(follow).lower())], None
            )

    def _newest_pod(self, kind: Kind, owner: Manifest) -> Manifest | None:
        if kind == CRON_JOB:
            jobs = [job for job in self.list(JOB) if _is_owned(job, owner)]
            pods = [self._newest_pod(JOB, job) for job in _by_age(jobs)]
            return next((pod for pod in reversed(pods) if pod), None)
        own = self.pods(kind, owner["metadata"]["name"])
        return representative_pod(own) if kind == JOB else next(reversed(own), None)

    def _path(self, kind: Kind, name: str | None = None) -> str:
        scope = f"namespaces/{self.namespace}/" if kind.namespaced else ""
        root = "api" if kind.api_version == "v1" else "apis"
        return f"/{root}/{kind.api_version}/{scope}{_PLURALS[kind]}" + (f"/{name}" if name else "")

    def _call(self, method: str, path: str, **options: Any) -> Manifest:
        with _errors():
            response: Manifest = self._dynamic.request(
                method,
                path,
                serializer=lambda _, content: content,
                _request_timeout=_CALL_TIMEOUT,
                **options,
            )
            return response

    def _lines(
        self, path: str, query: Sequence[tuple[str, Any]], patience: float | None
    ) -> Iterator[str]:
        """Yield the lines of a response as they arrive.

        After ``patience`` seconds without data, urllib3's ReadTimeoutError is raised.
        """
        with _errors():
            response = self._dynamic.request(
                "get",
                path,
                query_params=list(query),
                header_params={"Accept": "*/*"},
                serialize=False,
                _request_timeout=(_CALL_TIMEOUT[0], patience),
            )
        rest = b""
        try:
            for chunk in response.stream(amt=None):
                *complete, rest = (rest + chunk).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in complete)
            if rest:
                yield rest.decode("utf-8", "replace")
        finally:
            response.close()
            response.release_conn()


class _Gone(Exception):
    """The resource version at the start of the watch is too old."""


@contextmanager
def _errors() -> Iterator[None]:
    """Translate exceptions of the client to ClusterError and its subclasses."""
    try:
        yield
    except ApiException as error:
        raise _translated(error) from None
    except urllib3.exceptions.HTTPError as error:
        raise ClusterError(f"the API server does not respond: {error}") from None


def _translated(error: ApiException) -> ClusterError:
    body = (
        error.body.decode("utf-8", "replace")
        if isinstance(error.body, bytes)
        else str(error.body or "")
    )
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body or str(error.reason)
    # An unknown field in an applied object is an internal error to the API server: "failed to
    # create typed patch object".
    if error.status == 500 and "typed patch object" in message:
        return Invalid(message)
    classes: dict[int, Callable[[str], ClusterError]] = {
        400: Invalid,
        404: NotFound,
        409: Conflict,
        422: Invalid,
    }
    make = classes.get(error.status)
    return make(message) if make else ClusterError(f"{error.status}: {message}")


def _kind_of(manifest: Manifest) -> Kind:
    kind = _KINDS.get(manifest.get("kind", ""))
    if kind is None or manifest.get("apiVersion") != kind.api_version:
        raise Invalid(
            f"apiVersion, kind: {manifest.get('apiVersion')} {manifest.get('kind')} is not "
            "known here"
        )
    return kind


def _items(kind: Kind, listing: Manifest) -> list[Manifest]:
    # The API server omits the type of a listing's items.
    items = [
        {"apiVersion": kind.api_version, "kind": kind.name, **item} for item in listing["items"]
    ]
    return sorted(items, key=lambda item: str(item["metadata"]["name"]))


def _relisted(known: dict[str, Manifest], items: Sequence[Manifest]) -> Iterator[WatchEvent]:
    """Yield events for a listing: deletions since the last one, then every object."""
    current = {item["metadata"]["uid"]: item for item in items}
    for uid in known.keys() - current.keys():
        yield WatchEvent("DELETED", known[uid])
    known.clear()
    known.update(current)
    yield from (WatchEvent("ADDED", item) for item in items)


def _recorded(known: dict[str, Manifest], event: Manifest) -> WatchEvent:
    found = event["object"]
    if event["type"] == "DELETED":
        known.pop(found["metadata"]["uid"], None)
    else:
        known[found["metadata"]["uid"]] = found
    return WatchEvent(event["type"], found)


def _has_started(pod: Manifest, container: str) -> bool:
    """Return True when the container has started, or when its pod is finished."""
    status = pod.get("status", {})
    every = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    states = [
        state
        for each in every
        if each["name"] == container
        for state in (each["state"], each.get("lastState", {}))
    ]
    return status.get("phase") in ("Succeeded", "Failed") or any(
        "running" in s or "terminated" in s for s in states
    )


def _is_owned(manifest: Manifest, owner: Manifest) -> bool:
    return any(
        each["uid"] == owner["metadata"]["uid"]
        for each in manifest["metadata"].get("ownerReferences", [])
    )


def _by_age(manifests: Sequence[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda each: str(each["metadata"]["creationTimestamp"]))
