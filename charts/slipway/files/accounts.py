"""Makes MLflow's account for those who only read, once. MLflow has no command for that, but does it
for its administrator.
"""

import logging
import os
import sys
import time

import httpx

TRIES = 100
"""With a second between: MLflow may still be starting."""

log = logging.getLogger("accounts")


def ensure(mlflow: httpx.Client, admin: tuple[str, str], reader: tuple[str, str]) -> str | None:
    """What is wrong for good, or None when the account is there. Raises httpx.HTTPError when there
    is no sensible answer.
    """
    if mlflow.get("users/current", auth=reader).status_code == httpx.codes.OK:
        return None
    answer = mlflow.post(
        "users/create", auth=admin, json={"username": reader[0], "password": reader[1]}
    )
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return "MLflow does not know its administrator by the password in the Secret"
    if answer.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.CONFLICT):
        # Its code only: the message has the hash of the password in it.
        return (
            f"MLflow refuses the account {reader[0]}: {answer.json().get('error_code')}; is it "
            "there with another password?"
        )
    answer.raise_for_status()
    log.info("made %s", reader[0])
    return None


def main() -> int:
    """Exit status 1 when the account cannot be made, or exists with another password."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    admin, reader = (
        (os.environ[f"{who}_USERNAME"], os.environ[f"{who}_PASSWORD"])
        for who in ("ADMIN", "READER")
    )
    with httpx.Client(
        base_url=f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/", timeout=10
    ) as mlflow:
        for _ in range(TRIES):
            try:
                problem = ensure(mlflow, admin, reader)
            except httpx.HTTPError as error:
                problem = str(error)
                time.sleep(1)
            else:
                break
    if problem:
        log.error("%s", problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
