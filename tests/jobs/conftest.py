"""A real MLflow tracking server, a real PostgreSQL, and one trained version of each model."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    # MLflow's import warns about its own type hints.
    warnings.simplefilter("ignore")
    import mlflow.pyfunc  # noqa: F401

from slipway.registry.tracking import Tracking
from slipway.training.installed import declared_task
from slipway.training.task import Task, parse_parameters
from slipway_gateway.postgresql.migrate import migrate
from slipway_jobs.settings import Settings
from slipway_jobs.training.training import train

from tests.support.mlflow_server import mlflow_server
from tests.support.postgresql import postgresql_server

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def mlflow_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder)) as url:
        yield url


@pytest.fixture(scope="session")
def settings(mlflow_url: str) -> Settings:
    """Return settings without a public source: the mirror SLIPWAY_DATA, or offline sources."""
    mirror = os.environ.get("SLIPWAY_DATA")
    return Settings(
        MLFLOW_TRACKING_URI=mlflow_url, data=Path(mirror) if mirror else None, fetch=False,
        git_revision=REVISION, image="registry.example/slipway-jobs@sha256:0", actor="ada",
    )  # fmt: skip


@pytest.fixture(scope="session")
def tracking(mlflow_url: str) -> Tracking:
    return Tracking(mlflow_url)


Trainer = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def trained(settings: Settings, tracking: Tracking) -> Trainer:
    """``trained(task, key="value", …)`` trains and registers a version; it returns the result."""

    def run(task: Task, **parameters: str) -> dict[str, Any]:
        return train(task, parse_parameters(task, parameters), settings, tracking)

    return run


@pytest.fixture(scope="session")
def heart(trained: Trainer) -> dict[str, Any]:
    return trained(declared_task("heart"))


@pytest.fixture(scope="session")
def digits(trained: Trainer) -> dict[str, Any]:
    return trained(declared_task("digits"))


@pytest.fixture
def own_heart(request: pytest.FixtureRequest) -> Task:
    """Return the task of heart under a name that is unique to the test."""
    return replace(
        declared_task("heart"), name=f"heart-{request.node.name.replace('_', '-')}"[:100]
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL with the tables of the gateway."""
    with tempfile.TemporaryDirectory() as folder, postgresql_server(Path(folder)) as server:
        url = server.get_uri()
        migrate(url)
        yield url
