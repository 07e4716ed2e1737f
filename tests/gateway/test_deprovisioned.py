"""Detection and erasure of deprovisioned users, against a small SCIM server."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import orjson
import psycopg
import pytest
from slipway_gateway.errors import Unavailable
from slipway_gateway.http.upstream import Upstream
from slipway_gateway.identity.keys import IssuerKeys
from slipway_gateway.people.deprovisioned import DeprovisionedUsers
from slipway_gateway.people.scim import Scim
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.migrate import migrate

from tests.support.asgi_server import AsgiServer, ServerContext
from tests.support.waiting import SECONDS

PEOPLE = [f"person-{number}" for number in range(30)]
PAGE = 20


class Directory(ServerContext):
    """The SCIM list of users in pages; ``broken`` replaces the page that starts at its key."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.broken: dict[int, tuple[int, Any]] = {}
        self.server = AsgiServer(self._answer)

    async def _answer(self, scope: Any, _receive: Any, send: Any) -> None:
        status, content = self._response(scope["path"], scope["query_string"].decode())
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": orjson.dumps(content)})

    def _response(self, path: str, query: str) -> tuple[int, Any]:
        if path == "/token":
            return 200, {"access_token": "x", "expires_in": 3600}
        start = int(parse_qs(query)["startIndex"][0])
        found = [
            {"id": name, "userName": name} for name in self.names[start - 1 : start - 1 + PAGE]
        ]
        return self.broken.get(start, (200, {"totalResults": len(self.names), "Resources": found}))


class Deployment:
    """A database and the directory that gateways read."""

    def __init__(self, url: str, directory: Directory) -> None:
        self._url = url
        self.directory = directory

    def run(self, query: str) -> list[Any]:
        with psycopg.connect(self._url) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def search(self) -> None:
        """Search once for missing users, as a gateway that has just started."""
        asyncio.run(self._search())

    async def _search(self) -> None:
        upstream, database = Upstream(timeout=SECONDS, connect_timeout=SECONDS), Database(self._url)
        url = self.directory.server.url
        keys = IssuerKeys(url, url, upstream.json, refresh_seconds=1, refetch_seconds=1)
        keys.token_endpoint = f"{url}/token"
        try:
            await DeprovisionedUsers(
                database, Scim(upstream, keys, url, "client", "secret"), seconds=900
            ).once()
        finally:
            await database.close()
            await upstream.close()

    def later(self) -> None:
        """Simulate that a quarter of an hour has passed."""
        self.run("UPDATE known_accounts SET missing = missing - interval '15 minutes'")

    @property
    def missing(self) -> set[str]:
        return {
            name.removeprefix("user:")
            for (name,) in self.run("SELECT subject FROM known_accounts WHERE missing IS NOT NULL")
        }

    @property
    def erased(self) -> list[str]:
        """Names of the erased users in the audit."""
        return [
            thing
            for (thing,) in self.run(
                "SELECT thing FROM audit WHERE action = 'user.deprovision' ORDER BY number"
            )
        ]


@pytest.fixture(scope="module")
def server() -> Iterator[Directory]:
    with Directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def database_url(new_database: Callable[[], str]) -> str:
    url = new_database()
    migrate(url)
    return url


@pytest.fixture
def deployment(database_url: str, server: Directory) -> Deployment:
    """Provide an environment in which all users were seen."""
    server.names, server.broken = list(PEOPLE), {}
    deployment = Deployment(database_url, server)
    deployment.run("TRUNCATE known_accounts, deprovisioned, audit, feedback")
    deployment.search()
    return deployment


def test_a_missing_user_is_erased_once_after_a_quarter_of_an_hour(
    deployment: Deployment,
) -> None:
    for number, subject in enumerate(("user:person-7", "client:person-7")):
        deployment.run(
            f"INSERT INTO feedback VALUES ('{number}', 'r', now(), '{subject}', '1', 'I am "  # noqa: S608
            f"{subject}')"
        )
    deployment.directory.names.remove("person-7")
    for _ in range(2):
        deployment.search()
        assert (deployment.missing, deployment.erased) == ({"person-7"}, [])
    deployment.later()
    for _ in range(2):
        deployment.search()
        assert (deployment.missing, deployment.erased) == (set(), ["users/person-7"])
    rows = deployment.run("SELECT subject, comment FROM feedback ORDER BY feedback_id")
    assert (rows[0][0].startswith("erased-"), rows[0][1]) == (True, None)
    assert rows[1] == ("client:person-7", "I am client:person-7"), (
        "a service account of the same name is not erased"
    )
    assert deployment.run("SELECT subject FROM audit") == [(":gateway",)]


def test_the_period_restarts_after_a_user_has_returned(deployment: Deployment) -> None:
    deployment.directory.names.remove("person-7")
    deployment.search()
    deployment.directory.names.append("person-7")
    deployment.later()
    deployment.search()
    assert deployment.missing == set()
    deployment.directory.names.remove("person-7")
    deployment.search()
    assert (deployment.missing, deployment.erased) == ({"person-7"}, [])


@pytest.mark.parametrize(
    ("start", "status", "content"),
    [
        (1, 500, {}),
        (1, 403, {}),
        (1, 200, {}),
        (1, 200, {"totalResults": 0, "Resources": []}),
        (1, 200, "Service in maintenance"),
        (PAGE + 1, 500, {}),
        (PAGE + 1, 200, {"totalResults": len(PEOPLE), "Resources": []}),
    ],
)
def test_a_failed_or_incomplete_response_erases_no_user(
    deployment: Deployment, start: int, status: int, content: Any
) -> None:
    deployment.directory.names.remove("person-29")
    deployment.search()
    deployment.later()
    deployment.directory.broken = {start: (status, content)}
    for _ in range(2):
        with pytest.raises(Unavailable):
            deployment.search()
    assert (deployment.missing, deployment.erased) == ({"person-29"}, [])


def test_no_user_is_erased_while_the_provider_is_unavailable(deployment: Deployment) -> None:
    deployment.directory.names.remove("person-7")
    deployment.search()
    deployment.later()
    deployment.directory.server.__exit__()
    with pytest.raises(Unavailable, match="unavailable"):
        deployment.search()
    assert deployment.erased == []
    deployment.directory.server.__enter__()
    deployment.search()
    assert deployment.erased == ["users/person-7"]


def test_no_user_is_erased_when_more_than_a_tenth_is_missing(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    del deployment.directory.names[:4]
    for _ in range(2):
        deployment.search()
        deployment.later()
    assert (len(deployment.missing), deployment.erased) == (4, [])
    assert "4 of 30 accounts are missing" in caplog.text
    deployment.directory.names.append("person-0")
    deployment.search()
    assert sorted(deployment.erased) == ["users/person-1", "users/person-2", "users/person-3"]


def test_a_user_who_was_just_deleted_is_not_recorded_from_an_older_list(
    deployment: Deployment,
) -> None:
    deployment.run("DELETE FROM known_accounts WHERE subject = 'user:person-7'")
    deployment.run(
        "INSERT INTO deprovisioned VALUES ('user:person-7', 'erased-x', now() + interval "
        "'5 minutes')"
    )
    deployment.search()
    assert deployment.run(
        "SELECT count(*) FROM known_accounts WHERE subject = 'user:person-7'"
    ) == [(0,)]
    deployment.run("UPDATE deprovisioned SET until = now()")
    deployment.search()
    assert deployment.run(
        "SELECT count(*) FROM known_accounts WHERE subject = 'user:person-7'"
    ) == [(1,)]
