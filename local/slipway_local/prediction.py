"""One authenticated prediction, and the file and command with which a user makes the next one."""

import json
import shlex
import time
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import httpx
from slipway import profile
from slipway.errors import SlipwayError

from slipway_local.identity import ACCOUNTS, CLIENT, TOKEN_SECONDS
from slipway_local.stack import LocalStack, StartFailed

PATIENT = {
    "age": 67, "sex": 1, "cp": 4, "trestbps": 160, "chol": 286, "fbs": 0, "restecg": 2,
    "thalach": 108,
    "exang": 1, "oldpeak": 1.5, "slope": 2, "ca": 3, "thal": 3,
}  # fmt: skip


IMAGE = "image.png"
PIXEL = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
)
"""A PNG file of one grey pixel."""


def predict(stack: LocalStack, model: str) -> dict[str, Any]:
    """Return the model's prediction for one row, as a logged-in user.

    A response 503 has the time of the next attempt: right after a start the gateway may not know
    the predictor's new address yet. Raises httpx.HTTPStatusError.
    """
    until = time.monotonic() + stack.settings.deadline
    body = request(stack, model)
    while True:
        response = httpx.post(
            f"{stack.objects.gateway_url}/v1/models/{model}/predictions",
            **body,
            headers=_bearer(stack),
            timeout=30,
        )
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
            break
        time.sleep(float(response.headers.get("Retry-After", 1)))
    response.raise_for_status()
    result: dict[str, Any] = response.json()
    return result


def request(stack: LocalStack, model: str) -> dict[str, Any]:
    """Return httpx's argument of a body for the model's predictions: ``json`` or ``files``.

    Raises httpx.HTTPStatusError.
    """
    if model == "heart":
        return {"json": {"instances": [PATIENT]}}
    content = documented(stack, model)
    if example := content["application/json"].get("example"):
        return {"json": example}
    fields = content["multipart/form-data"]["schema"]["properties"]
    field = next(name for name, each in fields.items() if "binary" in str(each.get("items")))
    return {"files": {field: (IMAGE, PIXEL)}}


def documented(stack: LocalStack, model: str) -> dict[str, Any]:
    """Return the bodies of the model's predictions in the gateway's API document, by media type.

    Raises httpx.HTTPStatusError.
    """
    path = f"/v1/models/{model}/predictions"
    until = time.monotonic() + stack.settings.deadline
    while True:
        document = (
            httpx.get(
                f"{stack.objects.gateway_url}/v1/openapi.json", headers=_bearer(stack), timeout=30
            )
            .raise_for_status()
            .json()
        )
        if path in document["paths"]:
            content: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]
            return content
        if time.monotonic() > until:
            raise StartFailed(
                f"waited {stack.settings.deadline:.0f} s for {path} in "
                f"{stack.objects.gateway_url}/v1/openapi.json"
            )
        time.sleep(0.5)


def _bearer(stack: LocalStack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.user_token}"}


def curl_line(stack: LocalStack, model: str) -> str:
    """Return a command that predicts, for a shell that has sourced ``.slipway/env``.

    Raises httpx.HTTPStatusError.
    """
    body = request(stack, model)
    content = (
        f"-F {next(iter(body['files']))}=@{IMAGE}"
        if "files" in body
        else "-H 'Content-Type: application/json' -d "
        + shlex.quote(json.dumps(body["json"], separators=(",", ":")))
    )
    url = f'"$SLIPWAY_URL/v1/models/{model}/predictions"'
    return f'curl -s {url} -H "Authorization: Bearer $SLIPWAY_TOKEN" {content}'


def write_env(stack: LocalStack) -> None:
    """Write the state folder's ``env`` file, to be sourced, and the profiles of ``slipway``."""
    tokens = {
        name: stack.user_token if name == "user" else stack.objects.identity.login(name)
        for name in ACCOUNTS
    }
    try:
        write_profiles(stack, tokens)
    except (SlipwayError, OSError) as error:  # the stack runs without them
        stack.screen.warn(f"the profiles of the command slipway were not written: {error}")
    lines = {
        "SLIPWAY_URL": stack.objects.gateway_url,
        "SLIPWAY_TOKEN": tokens["user"],
        "SLIPWAY_SCIENTIST_TOKEN": tokens["scientist"],
        "SLIPWAY_ADMIN_TOKEN": tokens["admin"],
        "MLFLOW_TRACKING_URI": stack.objects.mlflow_url,
        # For tune, etl and monitor: sweeps, the warehouse and the event log.
        "SLIPWAY_DATABASE_URL": stack.objects.postgres.url("slipway"),
        # A version from a manual training must be signed, too; otherwise no predictor would
        # serve it.
        "SLIPWAY_SIGNING_KEY": str(stack.state.signing_key().resolve()),
    }
    stack.state.write_private(
        "env", "".join(f"export {name}={shlex.quote(value)}\n" for name, value in lines.items())
    )


def write_profiles(stack: LocalStack, tokens: Mapping[str, str]) -> None:
    """Write a profile of the command ``slipway`` for each account: ``local`` is that of the user.

    The login of a person is kept.
    """
    url, issuer = stack.objects.gateway_url, stack.objects.identity.issuer
    for account, token in sorted(tokens.items(), reverse=True):  # the first one is the current one
        name = "local" if account == "user" else f"local-{account}"
        here = profile.Profile(name, url, issuer, CLIENT)
        if profile.profiles()[0].get(name) != here:
            profile.save(here, current=False)
        found = profile.stored(name)
        if found is None or not found["refresh_token"]:
            # The user's token may have been used for half of its lifetime.
            answer = {"access_token": token, "expires_in": TOKEN_SECONDS / 2}
            profile.store_tokens(name, answer)
