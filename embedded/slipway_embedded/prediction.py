"""One authenticated prediction, as a user would make it, and the lines that let a user make the next."""

import json
import shlex
import time
from typing import Any

import httpx

from slipway_embedded.ring import Ring

PATIENT = {
    "age": 67, "sex": 1, "cp": 4, "trestbps": 160, "chol": 286, "fbs": 0, "restecg": 2, "thalach": 108,
    "exang": 1, "oldpeak": 1.5, "slope": 2, "ca": 3, "thal": 3,
}  # fmt: skip


def predict(ring: Ring) -> dict[str, Any]:
    """Ask `heart` for a patient's risk; returns the answer. Raises httpx.HTTPStatusError.

    A 503 says when to come back: right after a start the gateway may not have heard of the predictor's new address.
    """
    until = time.monotonic() + ring.settings.deadline
    while True:
        answer = httpx.post(
            f"{ring.gateway_url}/v1/models/heart/predictions",
            json={"instances": [PATIENT]},
            headers={"Authorization": f"Bearer {ring.user_token}"},
            timeout=30,
        )
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
            break
        time.sleep(float(answer.headers.get("Retry-After", 1)))
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def curl_line() -> str:
    """A command that predicts, for a shell that has sourced ``.slipway/env``."""
    body = shlex.quote(json.dumps({"instances": [PATIENT]}, separators=(",", ":")))
    url = '"$SLIPWAY_URL/v1/models/heart/predictions"'
    return f'curl -s {url} -H "Authorization: Bearer $SLIPWAY_TOKEN" -H "Content-Type: application/json" -d {body}'


def write_env(ring: Ring) -> None:
    """Write the state folder's ``env`` file, to be sourced."""
    lines = {"SLIPWAY_URL": ring.gateway_url, "SLIPWAY_TOKEN": ring.user_token, "MLFLOW_TRACKING_URI": ring.mlflow_url}
    ring.state.write_private("env", "".join(f"export {name}={shlex.quote(value)}\n" for name, value in lines.items()))
