"""The door to the gateway: a service account that asks for predictions and says what became known
of them.
"""

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
"""Seconds before its end at which a token is no longer used."""


class NotNow(Exception):
    """Too much is asked, or something is away; ``seconds`` is how long to wait, None when nobody
    said.
    """

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


class RowRefused(Exception):
    """The gateway does not take this row, or does not know this prediction; it takes others."""


@dataclass(frozen=True)
class Answer:
    """A prediction of one row."""

    request_id: str
    outputs: Mapping[str, Any]


class Caller:
    """Logs in by client credentials, again whenever its token is old or refused."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._token: tuple[str, float] | None = None

    def close(self) -> None:
        self._http.close()

    def predict(self, model: str, instance: Mapping[str, Any]) -> Answer:
        """Raises NotNow, RowRefused, CallRefused."""
        said = self._post(
            f"/v1/models/{model}/predictions",
            {"instances": [instance]},
            httpx.codes.UNPROCESSABLE_ENTITY,
        ).json()
        return Answer(said["requestId"], said["predictions"][0])

    def label(self, request_id: str, label: float) -> bool:
        """Say the truth of a prediction. Raises NotNow, RowRefused, CallRefused."""
        return self._post(
            f"/v1/predictions/{request_id}/feedback", {"label": label}, httpx.codes.NOT_FOUND
        ).is_success

    def _post(self, path: str, body: Mapping[str, Any], about_row: int) -> httpx.Response:
        for attempt in (1, 2):
            answer = self._ask(
                self._settings.url.rstrip("/") + path,
                {"Authorization": f"Bearer {self._bearer()}"},
                json=body,
            )
            if answer.status_code != httpx.codes.UNAUTHORIZED or attempt == 2:
                break
            self._token = None  # the issuer's keys or secrets have changed
        if answer.status_code == about_row:
            raise RowRefused(f"{path}: {answer.status_code}: {answer.text[:500]}")
        if not answer.is_success:
            raise CallRefused(
                f"the gateway answers {path} with {answer.status_code}: {answer.text[:500]}"
            )
        return answer

    def _bearer(self) -> str:
        if self._token is None or time.monotonic() > self._token[1]:
            issuer = self._settings.oidc_issuer
            base = (self._settings.oidc_discovery_url or issuer).rstrip("/")
            # Issuers send those away who ask for them by another name.
            own_name = {"Host": urlsplit(issuer).netloc}
            known = (
                self._ask(f"{base}/.well-known/openid-configuration", own_name, method="GET")
                .raise_for_status()
                .json()
            )
            endpoint = base + str(known["token_endpoint"]).removeprefix(issuer.rstrip("/"))
            login = (self._settings.client_id, self._settings.client_secret.get_secret_value())
            answer = self._ask(
                endpoint, own_name, data={"grant_type": "client_credentials"}, auth=login
            )
            if not answer.is_success:
                raise CallRefused(
                    f"{login[0]} cannot log in: {answer.status_code}: {answer.text[:200]}; "
                    "check SLIPWAY_CLIENT_SECRET"
                )
            granted = answer.json()
            self._token = (
                granted["access_token"],
                time.monotonic() + granted["expires_in"] - _EARLY,
            )
        return self._token[0]

    def _ask(
        self, url: str, headers: Mapping[str, str], method: str = "POST", **content: Any
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, url, headers=headers, **content)
        except httpx.TransportError as error:
            raise NotNow(f"{urlsplit(url).netloc} does not answer: {error}") from error
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
            said = answer.headers.get("Retry-After", "")
            raise NotNow(
                f"{answer.status_code} from {urlsplit(url).path}",
                float(said) if said.isdecimal() else None,
            )
        return answer
