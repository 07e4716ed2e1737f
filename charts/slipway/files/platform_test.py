"""The checks of `helm test`: parts respond, reject anonymous callers, and serve logged-in users."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx

TRIES = 30
"""Attempts, one each second: a new pod is not reachable from everywhere immediately."""

log = logging.getLogger("platform")


class Platform:
    """The parts by their addresses; a part with an empty address is not installed."""

    def __init__(self, web: httpx.Client, settings: Mapping[str, str]) -> None:
        self._web = web
        self._settings = settings
        self.failed = False

    def expect(
        self, status: int, what: str, url: str, method: str = "GET", **request: Any
    ) -> httpx.Response | None:
        """Send a request, log whether it has the status, and return None when it has not."""
        try:
            response = self._web.request(method, url, **request)
        except httpx.HTTPError as error:
            log.error("FAILED  %s: %s", what, error)  # noqa: TRY400 - one line a check
        else:
            if response.status_code == status:
                log.info("ok      %s: %d", what, status)
                return response
            log.error(
                "FAILED  %s: %d, not %d: %.300s", what, response.status_code, status, response.text
            )
        self.failed = True
        return None

    def wait(self) -> None:
        """Wait until the gateway is ready, for ``TRIES`` seconds."""
        for _ in range(TRIES):
            try:
                if (
                    self._web.get(f"{self._settings['GATEWAY']}/readyz").status_code
                    == httpx.codes.OK
                ):
                    return
            except httpx.HTTPError as error:
                log.info("the gateway: %s", error)
            time.sleep(1)

    def check_anonymous(self) -> None:
        """Check the parts as an anonymous caller."""
        gateway, mlflow, identity = (
            self._settings["GATEWAY"],
            self._settings["MLFLOW"],
            self._settings["IDENTITY"],
        )
        self.expect(200, "the gateway is ready", f"{gateway}/readyz")
        self.expect(401, "the gateway requires a token", f"{self._settings['CONTROL']}/v1/models")
        if mlflow:
            self.expect(200, "MLflow responds", f"{mlflow}/health")
            self.expect(
                401,
                "MLflow requires a password",
                f"{mlflow}/api/2.0/mlflow/registered-models/search",
            )
        if identity:
            self.expect(
                200,
                "the identity provider responds",
                f"{identity}/.well-known/openid-configuration",
                headers=self._own_name,
            )

    def check_login(self) -> None:
        """Check the gateway as a logged-in user."""
        settings = self._settings
        # Without a login, another image runs this, which does not have the package.
        from slipway_identity.login import LoginFailed, log_in

        try:
            response = log_in(
                settings["IDENTITY"],
                settings["ACCOUNT"],
                settings["PASSWORD"],
                host=settings["IDENTITY_HOST"],
                client_id=settings["CLIENT"],
            )
        except (LoginFailed, httpx.HTTPError) as error:
            log.error("FAILED  %s logs in: %s", settings["ACCOUNT"], error)  # noqa: TRY400 - one line a check
            self.failed = True
            return
        log.info("ok      %s logs in", settings["ACCOUNT"])
        bearer = {"Authorization": f"Bearer {response['access_token']}"}
        self.expect(
            200,
            f"the gateway serves {settings['ACCOUNT']}",
            f"{settings['CONTROL']}/v1/models",
            headers=bearer,
        )
        if model := settings["MODEL"]:
            url, body = (
                f"{settings['GATEWAY']}/v1/models/{model}/predictions",
                {"instances": [json.loads(settings["INSTANCE"])]},
            )
            self.expect(200, f"{model} predicts", url, "POST", json=body, headers=bearer)

    @property
    def _own_name(self) -> dict[str, str]:
        """Host header for Canaille, which redirects requests with another name than its own."""
        return {"Host": self._settings["IDENTITY_HOST"]}


def main() -> int:
    """Execute all checks; return 1 when one fails."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    with httpx.Client(timeout=30) as web:
        platform = Platform(web, os.environ)
        platform.wait()
        platform.check_anonymous()
        if "PASSWORD" in os.environ:
            platform.check_login()
    return 1 if platform.failed else 0


if __name__ == "__main__":
    sys.exit(main())
