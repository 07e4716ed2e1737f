"""A real MLflow tracking server."""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    # MLflow's import warns about its own type hints.
    warnings.simplefilter("ignore")
    import mlflow.pyfunc  # noqa: F401

from slipway.registry.tracking import Tracking

from tests.support.mlflow_address import user_of
from tests.support.mlflow_server import mlflow_server


@pytest.fixture(scope="session")
def mlflow_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder)) as url:
        yield url


@pytest.fixture(scope="session")
def tracking(mlflow_url: str) -> Iterator[Tracking]:
    """Return the server, to which MLflow is set as in a user's program."""
    with user_of(mlflow_url):
        yield Tracking(mlflow_url)
