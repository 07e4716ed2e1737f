"""A running platform, local or on Kubernetes, as its users see it."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from slipway_cluster import JOB, MODEL, Cluster
from slipway_contract.model import ConditionType, Model
from slipway_identity.login import log_in

from tests.support.processes import START_SECONDS
from tests.support.testdata import testdata
from tests.support.waiting import SECONDS, wait_for

PATIENT: dict[str, Any] = testdata("patient")


def v2(row: dict[str, Any], **changes: dict[str, Any]) -> dict[str, Any]:
    """Return a V2 request of one row; ``changes`` replaces parts of single tensors."""
    tensors = [
        {"name": name, "shape": [1], "datatype": "FP32", "data": [value]}
        for name, value in row.items()
    ]
    return {"inputs": [{**tensor, **changes.get(str(tensor["name"]), {})} for tensor in tensors]}


def pixels(values: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    """Return a V2 request of one image for `digits`."""
    return {
        "inputs": [
            {
                "name": "pixels",
                "shape": shape or [1, len(values)],
                "datatype": "FP32",
                "data": values,
            }
        ]
    }


@dataclass
class RunningStack:
    """Addresses, accounts and cluster of a running platform."""

    cluster: Cluster
    url: str
    mlflow_url: str
    issuer: str
    passwords: Mapping[str, str]
    """Passwords by account."""
    mlflow_login: tuple[str, str] | None = None
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By account: the token, and the time at which a new one is needed."""

    def token(self, account: str) -> str:
        """Return a token of a bootstrap account, valid for ten minutes; loads last seven."""
        found, ends = self.tokens.get(account, ("", 0.0))
        if time.monotonic() >= ends:
            found = self.login(account)
            self.tokens[account] = found, time.monotonic() + 300
        return found

    def login(self, account: str) -> str:
        """Return a new access token from the provider's pages."""
        return str(log_in(self.issuer, account, self.passwords[account])["access_token"])

    def client(self, account: str = "user") -> httpx.Client:
        """Return an HTTP client of the gateway; each request has a valid token of the account."""

        def authorized(request: httpx.Request) -> httpx.Request:
            request.headers["Authorization"] = f"Bearer {self.token(account)}"
            return request

        return httpx.Client(base_url=self.url, auth=authorized, timeout=SECONDS)

    def model(self, name: str) -> Model:
        return Model.model_validate(self.cluster.get(MODEL, name))

    def live(self, name: str) -> str | None:
        """Return the version that takes all traffic, if there is one."""
        return next((t.version for t in self.model(name).status.traffic if t.percent == 100), None)

    def degraded(self, name: str) -> str:
        """Return reason and message of the Degraded condition when it is true."""
        found = self.model(name).status.condition(ConditionType.DEGRADED)
        return f"{found.reason}: {found.message}" if found and found.status == "True" else ""

    def job(self, template: str, *args: str) -> dict[str, Any]:
        """Run a Job from its template and return its result, see ``result``."""
        return self.result(self.cluster.create_job(template, args=args)["metadata"]["name"])

    def result(self, job: str) -> dict[str, Any]:
        """Wait for a Job's end; return its last JSON line and its ``status``."""
        status = wait_for(f"Job {job}", lambda: self._finished(job), START_SECONDS)
        lines = list(self.cluster.logs(JOB, job))
        results = [line for line in lines if line.startswith("{")]
        assert results, "\n".join(lines)
        return {**json.loads(results[-1]), "status": status}

    def _finished(self, job: str) -> str | None:
        conditions = self.cluster.get(JOB, job).get("status", {}).get("conditions", [])
        return next(
            (
                c["type"]
                for c in conditions
                if c["type"] in ("Complete", "Failed") and c["status"] == "True"
            ),
            None,
        )

    def example(self, model: str, version: str) -> dict[str, Any]:
        """Return the example request of the version's artifact from MLflow."""
        found = self._mlflow("mlflow/model-versions/get", name=model, version=version)[
            "model_version"
        ]["source"]
        logged = self._mlflow(f"mlflow/logged-models/{found.removeprefix('models:/')}")["model"][
            "info"
        ]["artifact_uri"]
        return self._mlflow(
            f"mlflow-artifacts/artifacts/{logged.removeprefix('mlflow-artifacts:/')}/input_example.json"
        )

    def _mlflow(self, path: str, **query: str) -> dict[str, Any]:
        answer = httpx.get(
            f"{self.mlflow_url}/api/2.0/{path}",
            params=query,
            auth=self.mlflow_login,
            timeout=SECONDS,
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def move_alias(self, model: str, version: str | None) -> None:
        """Set the alias directly in MLflow, without promotion; remove it without a version."""
        body = {"name": model, "alias": "champion", **({"version": version} if version else {})}
        url = f"{self.mlflow_url}/api/2.0/mlflow/registered-models/alias"
        method = "POST" if version else "DELETE"
        httpx.request(
            method, url, json=body, auth=self.mlflow_login, timeout=SECONDS
        ).raise_for_status()
