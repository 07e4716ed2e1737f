"""Session fixtures: a real PostgreSQL, an issuer, a predictor and a gateway."""

import itertools
from collections.abc import Callable, Iterator

import psycopg
import pytest
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.environment import Client, Environment, Process, running
from tests.gateway.issuer import Issuer
from tests.gateway.predictor import Predictor
from tests.gateway.provider import Provider
from tests.support.postgresql import PostgresServer, postgresql_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with postgresql_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Provide a PostgreSQL of its own for a test that stops it."""
    with postgresql_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


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
def provider(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Iterator[Provider]:
    with Provider(tmp_path_factory.mktemp("provider"), new_database()) as provider:
        yield provider


@pytest.fixture(scope="session")
def predictor() -> Iterator[Predictor]:
    with Predictor() as predictor:
        yield predictor


@pytest.fixture
def own_predictor() -> Iterator[Predictor]:
    """Provide a predictor of its own for a test that makes it fail."""
    with Predictor() as predictor:
        yield predictor


@pytest.fixture(scope="session")
def new_environment(
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], str],
    issuer: Issuer,
    predictor: Predictor,
) -> Callable[[], Environment]:
    def build() -> Environment:
        url = new_database()
        migrate(url)
        return Environment(tmp_path_factory.mktemp("environment"), url, issuer, predictor)

    return build


@pytest.fixture(scope="session")
def environment(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100), ("2", 0), description="angiogram", owner="team-a")
    environment.model("asleep", message="suspended by its owner")
    return environment


@pytest.fixture(scope="session")
def client(environment: Environment) -> Iterator[Client]:
    with environment.gateway() as client:
        yield client


@pytest.fixture
def own_environment(new_environment: Callable[[], Environment]) -> Environment:
    """Provide an environment of its own for a test that changes it."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    return environment


@pytest.fixture(scope="module")
def home(new_environment: Callable[[], Environment]) -> Environment:
    """Provide an environment for the users of the provider, one for each module."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    return environment


@pytest.fixture(scope="module")
def admin(provider: Provider) -> str:
    """Provide an admin's access token from the provider."""
    return provider.token("admin")


@pytest.fixture(scope="module")
def process(new_environment: Callable[[], Environment]) -> Iterator[Process]:
    """Provide a process for each module, because the peak of its memory never decreases."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with running(environment) as process:
        yield process
