from collections.abc import Iterator

import pytest

from tests.identity.provider import Provider


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with Provider(tmp_path_factory.mktemp("identity")) as provider:
        yield provider


@pytest.fixture
def provider(served: Provider) -> str:
    """Return the URL of the provider."""
    return served.url
