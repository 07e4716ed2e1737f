"""Client of the gateway with a service account: sends prediction requests and feedback."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from slipway_jobs.errors import CallRefused
from slipway_jobs.settings import SimulatorSettings

logger = logging.getLogger(__name__)

_EARLY = 60.0
"""Seconds before its expiry at which a token is renewed."""


class RetryLater(Exception):
    """A rate limit or an outage; ``seconds`` is the value of Retry-After, None without one."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


class RowRefused(Exception):
    """The gateway rejects this row, or has no such prediction; other rows may succeed."""


@dataclass(frozen=True)
class Prediction:
    """The prediction of one row."""

    request_id: str
    outputs: Mapping[str, Any]


class Caller:
    """Authenticates by client credentials and renews its token when it expires or is rejected."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._token: tuple[str, float] | None = None

    def close(self) -> None:
        self._http.close()

    def predict(self, model: str, instance: Mapping[str, Any]) -> Prediction:
        """Predict a row. Raises RetryLater, RowRefused, CallRefused."""
        response = self._post(
            f"/v1/models/{model}/predictions",
            {"instances": [instance]},
            httpx.codes.UNPROCESSABLE_ENTITY,
        ).json()
        return Prediction(response["requestId"], response["predictions"][0])

    def label(self, request_id: str, label: float) -> bool:
        """Send the true label of a prediction. Raises RetryLater, RowRefused, CallRefused."""
        return self._post(
            f"/v1/predictions/{request_id}/feedback", {"label": label}, httpx.codes.NOT_FOUND
        ).is_success

    def _post(self, path: str, body: Mapping[str, Any], about_row: int) -> httpx.Response:
        for attempt in (1, 2):
            response = self._send(
                self._settings.url.rstrip("/") + path,
                {"Authorization": f"Bearer {self._bearer()}"},
                json=body,
            )
            if response.status_code != httpx.codes.UNAUTHORIZED or attempt == 2:
                break
            self._token = None  # the issuer's keys or secrets have changed
        if response.status_code == about_row:
            raise RowRefused(f"{path}: {response.status_code}: {response.text[:500]}")
        if not response.is_success:
            raise CallRefused(
                f"the gateway returned {response.status_code} for {path}: {response.text[:500]}"
            )
        return response

    def _bearer(self) -> str:
        if self._token is None or time.monotonic() > self._token[1]:
            issuer = self._settings.oidc_issuer
            base = (self._settings.oidc_discovery_url or issuer).rstrip("/")
            # Issuers reject requests with another host name.
            own_name = {"Host": urlsplit(issuer).netloc}
            metadata = (
                self._send(f"{base}/.well-known/openid-configuration", own_name, method="GET")
                .raise_for_status()
                .json()
            )
            endpoint = base + str(metadata["token_endpoint"]).removeprefix(issuer.rstrip("/"))
            login = (self._settings.client_id, self._settings.client_secret.get_secret_value())
            response = self._send(
                endpoint, own_name, data={"grant_type": "client_credentials"}, auth=login
            )
            if not response.is_success:
                raise CallRefused(
                    f"{login[0]} cannot log in: {response.status_code}: {response.text[:200]}; "
                    "check SLIPWAY_CLIENT_SECRET"
                )
            token = response.json()
            self._token = (token["access_token"], time.monotonic() + token["expires_in"] - _EARLY)
        return self._token[0]

    def _send(
        self, url: str, headers: Mapping[str, str], method: str = "POST", **content: Any
    ) -> httpx.Response:
        try:
            response = self._http.request(method, url, headers=headers, **content)
        except httpx.TransportError as error:
            raise RetryLater(f"{urlsplit(url).netloc} does not respond: {error}") from error
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
            delay = response.headers.get("Retry-After", "")
            raise RetryLater(
                f"{response.status_code} from {urlsplit(url).path}",
                float(delay) if delay.isdecimal() else None,
            )
        return response
