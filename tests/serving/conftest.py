import pytest

from tests.serving.artifacts import Fitted, fit_digits, fit_patients


@pytest.fixture(scope="session")
def patients() -> Fitted:
    return fit_patients()


@pytest.fixture(scope="session")
def digits() -> Fitted:
    return fit_digits()
