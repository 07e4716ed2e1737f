"""What `helm test` does: every part answers, none answers a stranger, and who logs in is served."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx

TRIES = 30
"""With a second between: a new pod is not reached by everyone at once."""

log = logging.getLogger("ring")


class Ring:
    """The parts by their addresses; an empty one is not installed."""

    def __init__(self, web: httpx.Client, settings: Mapping[str, str]) -> None:
        self._web = web
        self._settings = settings
        self.failed = False

    def expect(
        self, status: int, what: str, url: str, method: str = "GET", **request: Any
    ) -> httpx.Response | None:
        """Ask, and say whether the answer has the status; None when it has not."""
        try:
            answer = self._web.request(method, url, **request)
        except httpx.HTTPError as error:
            log.error("FAILED  %s: %s", what, error)  # noqa: TRY400 - one line a check
        else:
            if answer.status_code == status:
                log.info("ok      %s: %d", what, status)
                return answer
            log.error(
                "FAILED  %s: %d, not %d: %.300s", what, answer.status_code, status, answer.text
            )
        self.failed = True
        return None

    def wait(self) -> None:
        """Until the gateway is ready, for a while."""
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

    def greet(self) -> None:
        """As a stranger."""
        gateway, mlflow, identity = (
            self._settings["GATEWAY"],
            self._settings["MLFLOW"],
            self._settings["IDENTITY"],
        )
        self.expect(200, "the gateway is ready", f"{gateway}/readyz")
        self.expect(401, "the gateway asks for a token", f"{gateway}/v1/models")
        if mlflow:
            self.expect(200, "MLflow answers", f"{mlflow}/health")
            self.expect(
                401,
                "MLflow asks for a password",
                f"{mlflow}/api/2.0/mlflow/registered-models/search",
            )
        if identity:
            self.expect(
                200,
                "the identity provider answers",
                f"{identity}/.well-known/openid-configuration",
                headers=self._own_name,
            )

    def use(self) -> None:
        """As someone who can log in."""
        settings = self._settings
        from slipway_identity.login import (
            LoginFailed,
            log_in,
        )  # not in the image that runs this without a login

        try:
            answer = log_in(
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
        bearer = {"Authorization": f"Bearer {answer['access_token']}"}
        self.expect(
            200,
            f"the gateway serves {settings['ACCOUNT']}",
            f"{settings['GATEWAY']}/v1/models",
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
        """Canaille redirects who asks by another name than its own."""
        return {"Host": self._settings["IDENTITY_HOST"]}


def main() -> int:
    """Exit status 1 when something is not as it should be."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    with httpx.Client(timeout=30) as web:
        ring = Ring(web, os.environ)
        ring.wait()
        ring.greet()
        if "PASSWORD" in os.environ:
            ring.use()
    return 1 if ring.failed else 0


if __name__ == "__main__":
    sys.exit(main())
