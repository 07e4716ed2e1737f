"""Manifests for the tests. Their containers are small Python programs."""

from typing import Any

from slipway_cluster import Manifest

IMAGE = "python:3.11-slim-bookworm"
SERVICE, RUNTIME, STORAGE, LEASED = (
    "heart-3",
    "slipway-test-runtime",
    "slipway-test-storage",
    "slipway-test-lease",
)

SERVER = """
import http.server, os, pathlib, signal, sys
models = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/die':
            print('I was asked to die', flush=True)
            os._exit(7)
        file = models / self.path.strip('/')
        found = file.is_file()
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(file.read_bytes() if found else b'')

    def log_message(self, *_):
        pass

print('serving', os.environ['MLSERVER_MODEL_NAME'], flush=True)
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
"""
"""Server of the model folder's files; ``/die`` ends it with 7."""

FETCH = """
import os, pathlib, sys
uri, folder = sys.argv[1], pathlib.Path(sys.argv[2])
print('fetching', uri, flush=True)
if 'bad' in uri:
    log = pathlib.Path(os.environ['SLIPWAY_TERMINATION_LOG'])
    log.write_text('digest mismatch: model.onnx has other bytes')
    sys.exit(3)
(folder / 'ready').write_text('yes')
(folder / 'uri').write_text(uri)
"""
"""Substitute for the storage initializer."""


def container(code: str, *args: str, **more: Any) -> Manifest:
    return {
        "name": "main",
        "image": IMAGE,
        "command": ["python", "-u", "-c", code],
        "args": list(args),
        **more,
    }


def pod(code: str, *args: str, restart_policy: str = "Never", **more: Any) -> Manifest:
    return {
        "restartPolicy": restart_policy,
        "terminationGracePeriodSeconds": 2,
        "containers": [container(code, *args, **more)],
    }


def job(
    name: str,
    code: str,
    *args: str,
    restart_policy: str = "Never",
    backoff_limit: int = 0,
    **spec: Any,
) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "backoffLimit": backoff_limit,
            "template": {"spec": pod(code, *args, restart_policy=restart_policy)},
            **spec,
        },
    }


def cron_job(
    name: str, code: str, *args: str, schedule: str = "0 0 1 1 *", suspend: bool = True, **spec: Any
) -> Manifest:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"backoffLimit": 0, "template": {"spec": pod(code, *args)}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"schedule": schedule, "suspend": suspend, "jobTemplate": template, **spec},
    }


def model(name: str = "heart", **spec: Any) -> Manifest:
    return {
        "apiVersion": "serving.slipway.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {"registeredModel": name, **spec},
    }


def runtime(code: str = SERVER, **more: Any) -> Manifest:
    """Return a ClusterServingRuntime whose probes request a file of the model."""
    probe = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}
    served = {
        "name": "kserve-container",
        "image": IMAGE,
        "command": ["python", "-c", code],
        "args": ["/mnt/models", "{{.Name}}"],
        "env": [{"name": "PORT", "value": "8080"}, {"name": "TEAM", "value": "{{.Labels.team}}"}],
        "ports": [{"containerPort": 8080, "name": "http1"}],
        "readinessProbe": probe,
        **more,
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {"name": RUNTIME, "annotations": {"serving.kserve.io/server-type": "mlserver"}},
        "spec": {
            "protocolVersions": ["v2"],
            "supportedModelFormats": [{"name": "files", "autoSelect": True}],
            "containers": [served],
        },
    }


def storage(code: str = FETCH) -> Manifest:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterStorageContainer",
        "metadata": {"name": STORAGE},
        "spec": {
            "container": {
                "name": "storage-initializer",
                "image": IMAGE,
                "command": ["python", "-c", code],
            },
            "supportedUriFormats": [{"prefix": "mlflow://"}],
        },
    }


def service(
    name: str = SERVICE, uri: str = "mlflow://heart/3?sha256=abc", **model: Any
) -> Manifest:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "maxReplicas": 3,
                "terminationGracePeriodSeconds": 3,
                "model": {"modelFormat": {"name": "files"}, "storageUri": uri, **model},
            }
        },
    }


def autoscaler(name: str = SERVICE) -> Manifest:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": f"{name}-predictor",
            },
            "minReplicas": 1,
            "maxReplicas": 3,
        },
    }


def lease(name: str = LEASED, holder: str = "a") -> Manifest:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": spec,
    }
