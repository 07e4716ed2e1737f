"""A cluster without Kubernetes: the objects are in a state folder, and the Kubelet runs them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from slipway_cluster.apply import intent
from slipway_cluster.clock import moment_of, utc_now
from slipway_cluster.event import KEPT_SECONDS, event_on, last_seen
from slipway_cluster.interface import (
    CRON_JOB,
    EVENT,
    INFERENCE_SERVICE,
    JOB,
    POD,
    ClusterError,
    Conflict,
    Kind,
    Manifest,
    NotFound,
    WatchEvent,
)
from slipway_cluster.job import manual_job, representative_pod

from slipway_local.standin.admission import admit, admit_status, kind_of, name_of, with_defaults
from slipway_local.standin.apply import merge
from slipway_local.standin.pod_log import PodLog
from slipway_local.standin.store import Changes, Store


class LocalCluster:
    """A ``Cluster`` on a folder, which several processes may use; one of them runs the Kubelet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "cluster.db")

    def close(self) -> None:
        self.store.close()

    def apply(self, manifest: Manifest) -> Manifest:
        kind, name = kind_of(manifest), name_of(manifest)
        wanted = intent(manifest)
        admit(kind, wanted)
        with self.store.transaction():
            old = self.store.get(kind, name)
            if old is None:
                return self.store.insert(_in_namespace(kind, with_defaults(kind, wanted)), wanted)
            _check_version(manifest["metadata"].get("resourceVersion"), old)
            new = with_defaults(kind, merge(self.store.applied(kind, name), wanted, old))
            admit(kind, new, old)
            return self.store.replace(old, new, wanted)

    def create(self, manifest: Manifest) -> Manifest:
        kind = POD if manifest["kind"] == POD.name else kind_of(manifest)
        name, manifest = name_of(manifest), intent(manifest)
        if kind != POD:
            admit(kind, manifest)
        with self.store.transaction():
            if self.store.get(kind, name):
                raise Conflict(f"{kind.name} {name} exists already")
            return self.store.insert(_in_namespace(kind, with_defaults(kind, manifest)), {})

    def replace(self, manifest: Manifest) -> Manifest:
        kind, name = kind_of(manifest), name_of(manifest)
        with self.store.transaction():
            old = self.get(kind, name)
            _check_version(manifest["metadata"].get("resourceVersion"), old)
            new = {key: value for key, value in manifest.items() if key != "status"}
            admit(kind, new, old)
            if "status" in old:
                new["status"] = old["status"]
            return self.store.replace(old, new)

    def get(self, kind: Kind, name: str) -> Manifest:
        found = self.store.get(kind, name)
        if found is None:
            raise _missing(kind, name)
        return found

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        return self.store.list(kind, labels)

    def delete(self, kind: Kind, name: str, *, version: str | None = None) -> None:
        with self.store.transaction():
            found = self.store.get(kind, name)
            if found is not None:
                _check_version(version, found)
                self.store.remove(found["metadata"]["uid"])

    def update_status(self, kind: Kind, name: str, status: Mapping[str, Any]) -> Manifest:
        admit_status(kind, {"kind": kind.name, "metadata": {"name": name}, "status": status})
        return self._change(kind, name, lambda old: {**old, "status": dict(status)})

    def remove_field(self, kind: Kind, name: str, field: str, value: Any) -> Manifest:
        def without(old: Manifest) -> Manifest:
            if old["spec"].get(field) != value:
                raise Conflict(f"spec.{field} of {kind.name} {name} was changed")
            return {**old, "spec": {k: v for k, v in old["spec"].items() if k != field}}

        return self._change(kind, name, without)

    def suspend(self, cron_job: str, suspended: bool) -> Manifest:
        return self._change(
            CRON_JOB, cron_job, lambda old: {**old, "spec": {**old["spec"], "suspend": suspended}}
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
        return self.create(job)

    def watch(self, kind: Kind, *, timeout: float | None = None) -> Iterator[WatchEvent]:
        deadline = None if timeout is None else time.monotonic() + timeout
        changes = Changes(self.store)
        known: dict[str, Manifest] = {}
        try:
            while True:
                current = {each["metadata"]["uid"]: each for each in self.store.list(kind)}
                yield from _differences(known, current)
                known = current
                remaining = 3600.0 if deadline is None else deadline - time.monotonic()
                if not changes.wait(remaining) and deadline is not None:
                    return
        finally:
            changes.close()

    def logs(
        self, kind: Kind, name: str, *, container: str | None = None, follow: bool = False
    ) -> Iterator[str]:
        owner = self.get(kind, name)
        pod = self._newest_pod(kind, owner)
        if pod is None and not follow:
            raise NotFound(f"{kind.name} {name} has no pod yet")
        return self._log_lines(kind, owner, pod, container, follow=follow)

    def pods(self, kind: Kind, name: str) -> Sequence[Manifest]:
        owner = self.store.get(kind, name)
        return self.store.owned(POD, owner["metadata"]["uid"]) if owner else []

    def record(self, about: Manifest, *, reason: str, message: str, warning: bool = False) -> None:
        now = utc_now()
        event = event_on(about, reason, message, warning=warning, now=now)
        with self.store.transaction():
            for each in self.store.list(EVENT):
                if (now - moment_of(last_seen(each))).total_seconds() > KEPT_SECONDS:
                    self.store.remove(each["metadata"]["uid"])
            if old := self.store.get(EVENT, event["metadata"]["name"]):
                self.store.replace(
                    old, {**old, "count": old["count"] + 1, "lastTimestamp": event["lastTimestamp"]}
                )
            else:
                self.store.insert(_in_namespace(EVENT, event), {})

    def events(self, about: Manifest) -> Sequence[Manifest]:
        uid = about["metadata"]["uid"]
        return sorted(
            (each for each in self.store.list(EVENT) if each["involvedObject"].get("uid") == uid),
            key=last_seen,
        )

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
            if self.store.get(kind, owner["metadata"]["name"]) is None:
                return
            time.sleep(0.1)
            pod = self._newest_pod(kind, owner)
        spec = pod["spec"]
        names = [each["name"] for each in (*spec["containers"], *spec.get("initContainers", []))]
        if container is not None and container not in names:
            raise NotFound(
                f"no container {container!r} in {pod['metadata']['name']}; there are "
                f"{', '.join(names)}"
            )
        log = PodLog(
            self.root / "pods" / pod["metadata"]["uid"] / "logs" / f"{container or names[0]}.log"
        )
        yield from log.follow(self._is_over(pod["metadata"]["name"])) if follow else log.lines()

    def _is_over(self, pod: str) -> Callable[[], bool]:
        def over() -> bool:
            found = self.store.get(POD, pod)
            return found is None or found.get("status", {}).get("phase") in ("Succeeded", "Failed")

        return over

    def _newest_pod(self, kind: Kind, owner: Manifest) -> Manifest | None:
        uid = owner["metadata"]["uid"]
        owners = (
            [job["metadata"]["uid"] for job in self.store.owned(JOB, uid)]
            if kind == CRON_JOB
            else [uid]
        )
        for each in reversed(owners):
            if pods := self.store.owned(POD, each):
                return pods[-1] if kind == INFERENCE_SERVICE else representative_pod(pods)
        return None

    def _change(self, kind: Kind, name: str, change: Callable[[Manifest], Manifest]) -> Manifest:
        with self.store.transaction():
            old = self.get(kind, name)
            return self.store.replace(old, change(old))


def _in_namespace(kind: Kind, manifest: Manifest) -> Manifest:
    if not kind.namespaced:
        return manifest
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": "default"}}


def _check_version(version: str | None, old: Manifest) -> None:
    if version is not None and version != old["metadata"]["resourceVersion"]:
        raise Conflict(
            f"{old['kind']} {old['metadata']['name']} was changed since it was read; read it again"
        )


def _differences(
    known: Mapping[str, Manifest], current: Mapping[str, Manifest]
) -> Iterator[WatchEvent]:
    for uid in known.keys() - current.keys():
        yield WatchEvent("DELETED", known[uid])
    for uid, manifest in current.items():
        if uid not in known:
            yield WatchEvent("ADDED", manifest)
        elif manifest["metadata"]["resourceVersion"] != known[uid]["metadata"]["resourceVersion"]:
            yield WatchEvent("MODIFIED", manifest)


def _missing(kind: Kind, name: str) -> NotFound:
    return NotFound(f"{kind.name} {name} does not exist")


def connect(url: str) -> LocalCluster:
    """Return the stand-in at ``local:///absolute/folder``. Raises ClusterError for other URLs."""
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/"):
        raise ClusterError(f"{url!r} is not a folder of the stand-in: use local:///absolute/folder")
    return LocalCluster(Path(parts.path))
