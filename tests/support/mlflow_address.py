"""MLflow's address of the tracking server, a global of its module."""

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow


@contextmanager
def user_of(url: str) -> Iterator[None]:
    """Set MLflow to the server inside the block, as a user's program does.

    Afterwards it is as before, also if it was not set.
    """
    is_set = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]
    before = mlflow.get_tracking_uri() if is_set else None
    mlflow.set_tracking_uri(url)
    yield
    mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets it
