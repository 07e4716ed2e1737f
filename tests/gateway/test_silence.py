"""PostgreSQL without responses on open connections: waits time out, and new connections work."""

import ast
import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from slipway_gateway.postgresql.connection import Connection, parameters
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable
from sqlalchemy import text

from tests.gateway.environment import Environment, v2_request
from tests.gateway.workers import Workers
from tests.support.fault_injection import Network, frozen
from tests.support.postgresql import PostgresServer
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
QUICK = 1.5
"""Statement timeout in seconds."""
PATIENCE = 300.0
"""Much more than any deadline here, to detect a wait without one."""


def within(seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(seconds):
            await work()

    asyncio.run(run())


def test_a_transaction_on_a_silent_connection_fails_and_the_next_one_gets_a_new_connection(
    own_environment: Environment,
) -> None:
    async def work() -> None:
        with Network(own_environment.database_url) as network:
            database = Database(network.url, statement_seconds=QUICK)
            assert await database.run(text("SELECT 1"))
            network.cut()
            with pytest.raises(DatabaseUnavailable):
                await database.run(text("SELECT 1"))
            network.mend()
            assert await database.run(text("SELECT 1"))
            await database.close()

    within(PATIENCE, work)


def test_a_frozen_server_ends_the_wait_for_a_statement(
    own_postgres: PostgresServer,
) -> None:

    async def work() -> None:
        database = Database(own_postgres.get_uri(), statement_seconds=QUICK)
        assert await database.run(text("SELECT 1"))
        with frozen(own_postgres.get_pid() or 0), pytest.raises(DatabaseUnavailable):
            await database.run(text("SELECT 1"))
        assert await database.run(text("SELECT 1"))
        await database.close()

    try:
        within(PATIENCE, work)
    finally:
        own_postgres.stop()


def test_the_server_ends_a_statement_that_takes_too_long(own_environment: Environment) -> None:
    async def work() -> None:
        database = Database(own_environment.database_url, statement_seconds=QUICK)
        with pytest.raises(DatabaseUnavailable) as refused:
            await database.run(text("SELECT pg_sleep(60)"))
        assert "statement timeout" in refused.value.cause
        assert await database.run(text("SELECT pg_sleep(2)"), seconds=30), (
            "maintenance may take longer"
        )
        ((shown,),) = await database.run(text("SHOW statement_timeout"))
        assert shown == "1500ms", "it is restored afterwards"
        await database.close()

    within(PATIENCE, work)


def test_a_transaction_of_many_short_statements_has_a_deadline(
    own_environment: Environment,
) -> None:
    async def work() -> None:
        database = Database(own_environment.database_url, statement_seconds=QUICK)

        async def many() -> None:
            async with database.transaction() as connection:
                while True:
                    await connection.execute(text("SELECT pg_sleep(0.2)"))

        with pytest.raises(DatabaseUnavailable) as refused:
            await many()
        assert "did not complete within 4.5 s" in refused.value.cause
        await database.close()

    within(PATIENCE, work)


def test_a_listening_connection_has_no_statement_timeout(
    own_environment: Environment,
) -> None:
    async def work() -> None:
        given = parameters(own_environment.database_url, statement_seconds=QUICK)
        async with await Connection.connect(
            own_environment.database_url, autocommit=True, **given
        ) as connection:
            await connection.execute("LISTEN something")
            received = [each async for each in connection.notifies(timeout=3)]
            assert (received, connection.closed) == ([], False)

    within(PATIENCE, work)


def test_events_and_grants_resume_over_new_connections(own_environment: Environment) -> None:
    with Network(own_environment.database_url) as network:
        environment = Environment(
            own_environment.folder, network.url, own_environment.issuer, own_environment.predictor
        )
        with environment.gateway(database_seconds=QUICK, watch_seconds=1) as client:
            assert client.infer("heart").status_code == 200
            wait_for("the first shipment", lambda: own_environment.count() == 1)
            network.cut()
            assert client.infer("heart").status_code == 200
            wait_for(
                "the loss to be noticed",
                lambda: (
                    client.gateway.events.shipper.problem and client.gateway.access.grants.problem
                ),
                PATIENCE,
            )
            assert (
                client.get("/readyz", who=None).json()["database"]
                == "unavailable, events wait in the spool"
            )
            with psycopg.connect(own_environment.database_url) as connection:
                connection.execute("DELETE FROM grants")
            network.mend()
            wait_for("the second shipment", lambda: own_environment.count() == 2, PATIENCE)
            wait_for("the revocation", lambda: client.infer("heart").status_code == 403, PATIENCE)
            assert client.get("/readyz", who=None).json()["database"] == "ok"


@pytest.mark.slow
def test_waiting_callers_of_a_silent_database_fail_together(
    own_environment: Environment,
) -> None:
    callers = 40  # in sequence they would take longer than the client's timeout of a minute
    with Network(own_environment.database_url) as network:
        environment = Environment(
            own_environment.folder, network.url, own_environment.issuer, own_environment.predictor
        )
        with (
            environment.gateway(database_seconds=QUICK, ship_seconds=3600) as client,
            ThreadPoolExecutor(callers) as pool,
        ):
            network.cut()
            client.infer("heart")
            answers = pool.map(lambda _: client.get("/v1/usage"), range(callers))
            assert {answer.status_code for answer in answers} == {503}
            network.mend()


@pytest.mark.slow
def test_a_worker_with_silent_connections_does_not_hang(own_environment: Environment) -> None:
    with Network(own_environment.database_url) as network:
        environment = Environment(
            own_environment.folder, network.url, own_environment.issuer, own_environment.predictor
        )
        with (
            own_environment.gateway() as client,
            Workers(environment, database_seconds=QUICK) as workers,
        ):
            first = client.post(
                "/v2/models/heart/infer", v2_request(), Prefer="respond-async"
            ).json()
            wait_for(
                "the first task",
                lambda: _is_done(client.get(f"/v1/tasks/{first['taskId']}").json()),
                PATIENCE,
            )
            network.cut()
            second = client.post(
                "/v2/models/heart/infer", v2_request(), Prefer="respond-async"
            ).json()
            network.mend()

            def goes_on() -> bool:
                """Restart an ended worker, like a pod."""
                if workers.ended():
                    workers.start()
                return _is_done(client.get(f"/v1/tasks/{second['taskId']}").json())

            wait_for("the second task", goes_on, PATIENCE)


def _is_done(task: dict[str, Any]) -> bool:
    return bool(task["state"] == "succeeded")


OPENS = {"connect", "create_engine", "create_async_engine", "PsycopgConnector", "RDBStorage"}
FROM = {"psycopg", "AsyncConnection", "Connection", None}


@pytest.mark.slow
def test_every_connection_of_the_product_has_the_shared_parameters() -> None:
    """Check that all modules that open connections use the shared function."""
    opening = {}
    for package in (
        "gateway/slipway_gateway",
        "jobs/slipway_jobs",
        "controller/slipway_controller",
    ):
        for path in (ROOT / package).rglob("*.py"):
            if "migrations" not in path.parts and _opens(source := path.read_text()):
                opening[str(path.relative_to(ROOT))] = (
                    "parameters(" in source or "slipway_jobs.postgresql import connect" in source
                )
    assert len(opening) >= 8, "the search finds modules that open connections"
    assert [path for path, is_bounded in opening.items() if not is_bounded] == []


def _opens(source: str) -> bool:
    modules = ("psycopg", "create_engine", "slipway_jobs.postgresql")
    if all(module not in source for module in modules):
        return False
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            owner = getattr(getattr(function, "value", None), "id", None)
            if name in OPENS and owner in FROM:
                return True
    return False
