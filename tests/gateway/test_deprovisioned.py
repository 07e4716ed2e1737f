"""Detection and erasure of deprovisioned users, against a small SCIM server."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import orjson
import psycopg
import pytest
from slipway_gateway.errors import Unavailable
from slipway_gateway.eventlog.deprovisioned import DeprovisionedUsers
from slipway_gateway.http.upstream import Upstream
from slipway_gateway.identity.keys import IssuerKeys
from slipway_gateway.people.scim import Scim
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.loopback import Loopback, Served

PEOPLE = [f"person-{number}" for number in range(30)]
PAGE = 20


class Directory(Served):
    """The SCIM list of users in pages; ``broken`` replaces the page that starts at its key."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.broken: dict[int, tuple[int, Any]] = {}
        self.server = Loopback(self._answer)

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


class DirectoryEnvironment:
    """A database and the directory that gateways read."""

    def __init__(self, url: str, directory: Directory) -> None:
        self._url = url
        self.directory = directory

    def run(self, query: str) -> list[Any]:
        with psycopg.connect(self._url) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def look(self) -> None:
        """Search once for missing users, as a gateway that has just started."""
        asyncio.run(self._look())

    async def _look(self) -> None:
        upstream, database = Upstream(timeout=5, connect_timeout=5), Database(self._url)
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
                "SELECT thing FROM audit WHERE action = 'user.vanish' ORDER BY number"
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
def town(database_url: str, server: Directory) -> DirectoryEnvironment:
    """Provide an environment in which all users were seen."""
    server.names, server.broken = list(PEOPLE), {}
    town = DirectoryEnvironment(database_url, server)
    town.run("TRUNCATE known_accounts, deprovisioned, audit, feedback")
    town.look()
    return town


def test_a_missing_user_is_erased_once_after_a_quarter_of_an_hour(
    town: DirectoryEnvironment,
) -> None:
    for number, subject in enumerate(("user:person-7", "client:person-7")):
        town.run(
            f"INSERT INTO feedback VALUES ('{number}', 'r', now(), '{subject}', '1', 'I am "  # noqa: S608
            f"{subject}')"
        )
    town.directory.names.remove("person-7")
    for _ in range(2):
        town.look()
        assert (town.missing, town.erased) == ({"person-7"}, [])
    town.later()
    for _ in range(2):
        town.look()
        assert (town.missing, town.erased) == (set(), ["users/person-7"])
    rows = town.run("SELECT subject, comment FROM feedback ORDER BY feedback_id")
    assert (rows[0][0].startswith("departed-"), rows[0][1]) == (True, None)
    assert rows[1] == ("client:person-7", "I am client:person-7"), (
        "a service account of the same name is not erased"
    )
    assert town.run("SELECT subject FROM audit") == [(":gateway",)]


def test_the_period_restarts_after_a_user_has_returned(town: DirectoryEnvironment) -> None:
    town.directory.names.remove("person-7")
    town.look()
    town.directory.names.append("person-7")
    town.later()
    town.look()
    assert town.missing == set()
    town.directory.names.remove("person-7")
    town.look()
    assert (town.missing, town.erased) == ({"person-7"}, [])


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
    town: DirectoryEnvironment, start: int, status: int, content: Any
) -> None:
    town.directory.names.remove("person-29")
    town.look()
    town.later()
    town.directory.broken = {start: (status, content)}
    for _ in range(2):
        with pytest.raises(Unavailable):
            town.look()
    assert (town.missing, town.erased) == ({"person-29"}, [])


def test_no_user_is_erased_while_the_provider_is_unavailable(town: DirectoryEnvironment) -> None:
    town.directory.names.remove("person-7")
    town.look()
    town.later()
    town.directory.server.__exit__()
    with pytest.raises(Unavailable, match="away"):
        town.look()
    assert town.erased == []
    town.directory.server.__enter__()
    town.look()
    assert town.erased == ["users/person-7"]


def test_no_user_is_erased_when_more_than_a_tenth_is_missing(
    town: DirectoryEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    del town.directory.names[:4]
    for _ in range(2):
        town.look()
        town.later()
    assert (len(town.missing), town.erased) == (4, [])
    assert "4 of 30 accounts are missing" in caplog.text
    town.directory.names.append("person-0")
    town.look()
    assert sorted(town.erased) == ["users/person-1", "users/person-2", "users/person-3"]


def test_a_user_who_was_just_deleted_is_not_recorded_from_an_older_list(
    town: DirectoryEnvironment,
) -> None:
    town.run("DELETE FROM known_accounts WHERE subject = 'user:person-7'")
    town.run(
        "INSERT INTO deprovisioned VALUES ('user:person-7', 'departed-x', now() + interval "
        "'5 minutes')"
    )
    town.look()
    assert town.run("SELECT count(*) FROM known_accounts WHERE subject = 'user:person-7'") == [(0,)]
    town.run("UPDATE deprovisioned SET until = now()")
    town.look()
    assert town.run("SELECT count(*) FROM known_accounts WHERE subject = 'user:person-7'") == [(1,)]
