"""Creates MLflow's read-only account, once.

MLflow has no command for that, but an API for its administrator.
"""

import logging
import os
import sys
import time

import httpx

TRIES = 100
"""Attempts, one each second: MLflow may still be starting."""

log = logging.getLogger("accounts")


def ensure(mlflow: httpx.Client, admin: tuple[str, str], reader: tuple[str, str]) -> str | None:
    """Return the permanent problem, or None when the account exists.

    Raises httpx.HTTPError for an unexpected response.
    """
    if mlflow.get("users/current", auth=reader).status_code == httpx.codes.OK:
        return None
    response = mlflow.post(
        "users/create", auth=admin, json={"username": reader[0], "password": reader[1]}
    )
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return "MLflow rejects the password of its administrator in the Secret"
    if response.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.CONFLICT):
        # Only its code: the message contains the hash of the password.
        return (
            f"MLflow rejects the account {reader[0]}: {response.json().get('error_code')}; it may "
            "exist with another password"
        )
    response.raise_for_status()
    log.info("created %s", reader[0])
    return None


def main() -> int:
    """Create the account; return 1 when that fails, or when it exists with another password."""
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
