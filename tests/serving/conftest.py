import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.artifacts import Fitted, fit_digits, fit_patients, write_artifact
from tests.serving.counting import install
from tests.serving.tracking_server import TrackingServer, tracking_server


@pytest.fixture(scope="session", autouse=True)
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the rules of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    install(folder, "counting = tests.serving.counting:load")
    sys.path.append(str(folder))
    yield
    sys.path.remove(str(folder))


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


@pytest.fixture
def artifact(tmp_path: Path, patients: Fitted) -> Path:
    """Return an artifact that the test may change."""
    write_artifact(tmp_path / "artifact", patients)
    return tmp_path / "artifact"


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """Return the folder for the verified artifact; it does not exist yet."""
    return tmp_path / "models"
