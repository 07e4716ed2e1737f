"""One authenticated prediction, as a user would make it, and the lines that let a user make the
next.
"""

import json
import shlex
import time
from typing import Any

import httpx

from slipway_local.programs import StartFailed
from slipway_local.stack import Ring

PATIENT = {
    "age": 67, "sex": 1, "cp": 4, "trestbps": 160, "chol": 286, "fbs": 0, "restecg": 2,
    "thalach": 108,
    "exang": 1, "oldpeak": 1.5, "slope": 2, "ca": 3, "thal": 3,
}  # fmt: skip


def predict(stack: Ring, model: str) -> dict[str, Any]:
    """Ask the model for one row, as a logged-in user; returns the answer. Raises
    httpx.HTTPStatusError.

    A 503 says when to come back: right after a start the gateway may not have heard of the
    predictor's new address.
    """
    until = time.monotonic() + stack.settings.deadline
    body = request(stack, model)
    while True:
        answer = httpx.post(
            f"{stack.gateway_url}/v1/models/{model}/predictions",
            json=body,
            headers=_bearer(stack),
            timeout=30,
        )
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
            break
        time.sleep(float(answer.headers.get("Retry-After", 1)))
    answer.raise_for_status()
    said: dict[str, Any] = answer.json()
    return said


def request(stack: Ring, model: str) -> dict[str, Any]:
    """A body for the model's predictions. Raises httpx.HTTPStatusError."""
    return {"instances": [PATIENT]} if model == "heart" else documented(stack, model)


def documented(stack: Ring, model: str) -> dict[str, Any]:
    """The request that the gateway's API document gives as the model's example. Raises
    httpx.HTTPStatusError.
    """
    path = f"/v1/models/{model}/predictions"
    until = time.monotonic() + stack.settings.deadline
    while True:
        document = (
            httpx.get(f"{stack.gateway_url}/v1/openapi.json", headers=_bearer(stack), timeout=30)
            .raise_for_status()
            .json()
        )
        if path in document["paths"]:
            content = document["paths"][path]["post"]["requestBody"]["content"]
            example: dict[str, Any] = content["application/json"]["example"]
            return example
        if time.monotonic() > until:
            raise StartFailed(
                f"waited {stack.settings.deadline:.0f} s for {path} in "
                f"{stack.gateway_url}/v1/openapi.json"
            )
        time.sleep(0.5)


def _bearer(stack: Ring) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.user_token}"}


def curl_line(stack: Ring, model: str) -> str:
    """A command that predicts, for a shell that has sourced ``.slipway/env``. Raises
    httpx.HTTPStatusError.
    """
    body = shlex.quote(json.dumps(request(stack, model), separators=(",", ":")))
    url = f'"$SLIPWAY_URL/v1/models/{model}/predictions"'
    return (
        f'curl -s {url} -H "Authorization: Bearer $SLIPWAY_TOKEN" -H "Content-Type: '
        f'application/json" -d {body}'
    )


def write_env(stack: Ring) -> None:
    """Write the state folder's ``env`` file, to be sourced."""
    lines = {
        "SLIPWAY_URL": stack.gateway_url,
        "SLIPWAY_TOKEN": stack.user_token,
        "SLIPWAY_SCIENTIST_TOKEN": stack.identity.login("scientist"),
        "SLIPWAY_ADMIN_TOKEN": stack.identity.login("admin"),
        "MLFLOW_TRACKING_URI": stack.mlflow_url,
        # Sweeps, the warehouse and the event log: tune, etl and monitor need it.
        "SLIPWAY_DATABASE_URL": stack.postgres.url("slipway"),
        # Where the key is: a version that is trained by hand is signed, too, or no predictor would
        # serve it.
        "SLIPWAY_SIGNING_KEY": str(stack.state.signing_key().resolve()),
    }
    stack.state.write_private(
        "env", "".join(f"export {name}={shlex.quote(value)}\n" for name, value in lines.items())
    )
