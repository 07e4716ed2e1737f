from collections.abc import Iterator

import pytest

from tests.serving.artifacts import Fitted, fit_digits, fit_patients
from tests.serving.tracking_server import TrackingServer, tracking_server


@pytest.fixture(scope="session")
def patients() -> Fitted:
    return fit_patients()


@pytest.fixture(scope="session")
def digits() -> Fitted:
    return fit_digits()


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    with tracking_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server
