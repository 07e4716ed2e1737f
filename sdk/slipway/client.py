"""Client of the gateway: Models are read, declared and deleted over HTTP."""

import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from slipway.errors import Refused, SlipwayError, WrongParameter

TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 1.0


class Client:
    """A connection to the gateway with a caller's token; a context manager."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """Return the models that are granted to the caller, sorted by name."""
        models: list[dict[str, Any]] = self._sent("GET").json()["models"]
        return models

    def model(self, name: str) -> dict[str, Any]:
        """Return the state of a model. Raises Refused when there is none."""
        model: dict[str, Any] = self._sent("GET", name).json()
        return model

    def declare(self, manifest: Mapping[str, Any]) -> bool:
        """Create or replace a Model; return whether it was created."""
        name = manifest["metadata"]["name"]
        return self._sent("PUT", name, manifest).status_code == httpx.codes.CREATED

    def wait_ready(self, name: str, seconds: float) -> str:
        """Wait until the Model serves as it is declared now, and return its message.

        Raises SlipwayError with the last message after the time.
        """
        until, message = time.monotonic() + seconds, ""
        while time.monotonic() < until:
            found = self._sent("GET", name, below="/declaration").json()
            message, is_done = _progress(found)
            if is_done:
                return message
            time.sleep(POLL_SECONDS)
        raise SlipwayError(
            f"model {name}: does not serve as declared after {seconds:g} s: "
            f"{message or 'the controller has not read it'}; slipway get {name} shows its state"
        )

    def delete(self, name: str) -> None:
        """Begin the deletion of a Model; its traffic drains first."""
        self._sent("DELETE", name)

    def _sent(
        self, method: str, name: str = "", body: Mapping[str, Any] | None = None, below: str = ""
    ) -> httpx.Response:
        path = f"/v1/models/{quote(name, safe='')}{below}".rstrip("/")
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise SlipwayError(
                f"SLIPWAY_URL: {self._url} does not respond: {error}; set it to the "
                "URL of the gateway"
            ) from error
        if response.is_success:
            return response
        raise _failure(response)


def _progress(model: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the message of a Model's state, and whether its declaration is carried out."""
    status = model["status"]
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    holds = {kind for kind, each in conditions.items() if each["status"] == "True"}
    is_current = status.get("observedGeneration", 0) >= model["metadata"].get("generation", 0)
    kind = next((each for each in ("Degraded", "Progressing") if each in holds), "Ready")
    is_done = is_current and kind == "Ready" and kind in holds
    return conditions.get(kind, {}).get("message", ""), is_done


def from_environment() -> Client:
    """Return a client of ``SLIPWAY_URL`` with ``SLIPWAY_TOKEN``. Raises WrongParameter."""
    given = {name: os.environ.get(name, "") for name in ("SLIPWAY_URL", "SLIPWAY_TOKEN")}
    for name, meaning in (
        ("SLIPWAY_URL", "the URL of the gateway"),
        ("SLIPWAY_TOKEN", "an access token of the identity provider"),
    ):
        if not given[name]:
            raise WrongParameter(f"{name}: is not set; set it to {meaning}")
    return Client(given["SLIPWAY_URL"], given["SLIPWAY_TOKEN"])


def _failure(response: httpx.Response) -> SlipwayError:
    """Return the error of a response with the gateway's reasons."""
    try:
        problem = response.json()
        reasons = [problem["detail"]]
        reasons += [": ".join(each.values()) for each in problem.get("errors") or ()]
        text = "; ".join(reasons)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = f"{response.reason_phrase}: {response.text[:200]}"
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return WrongParameter(f"SLIPWAY_TOKEN: {text}; get a new token")
    kind = Refused if response.is_client_error else SlipwayError
    return kind(f"the gateway answers {response.status_code}: {text}")
