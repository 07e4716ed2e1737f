"""The composition of the gateway: small builders, and planes that a process can lack."""

import asyncio
import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from slipway_gateway import build
from slipway_gateway.app import Gateway
from starlette.types import Message, Scope

from tests.gateway.environment import Environment

BUILDERS = [
    pytest.param(each, id=name)
    for name, each in vars(build).items()
    if (inspect.isfunction(each) or inspect.isclass(each)) and each.__module__ == build.__name__
]
MODULES = """
import sys
import slipway_gateway.worker
planes = ("slipway_gateway.control", "slipway_gateway.people", "slipway_gateway.app")
print(*(name for name in sys.modules if name.startswith(planes)))
"""


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_builder_takes_at_most_eight_parts(builder: Callable[..., Any]) -> None:
    assert len(inspect.signature(builder).parameters) <= 8


def test_the_worker_loads_no_route_of_the_control_plane_and_no_people() -> None:
    command = [sys.executable, "-W", "error", "-c", MODULES]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "\n"


class Lifetime:
    """Lives as long as the scope of its request.

    Counting all objects that the collector finds would count those of other threads, too.
    """


@pytest.mark.parametrize("path", ["/v2", "/v2/models/heart", "/v1/docs", "/unknown"])
def test_a_request_leaves_no_reference_cycle(own_environment: Environment, path: str) -> None:
    """Garbage would be collected in the event loop, during other requests."""
    application = Gateway(own_environment.settings(), own_environment.cluster).application

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def request(lives: list[weakref.ref[Lifetime]]) -> None:
        async def send(_: Message) -> None:
            cycle.clear()

        lifetime = Lifetime()
        lives.append(weakref.ref(lifetime))
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [],
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "query_string": b"",
            "lifetime": lifetime,
        }
        cycle = [scope]  # the server's object of a request, which its send refers to
        await application(scope, receive, send)
        cycle.append(scope)

    async def uncollected() -> int:
        await request([])  # fills caches
        lives: list[weakref.ref[Lifetime]] = []
        gc.disable()
        try:
            for _ in range(20):
                await request(lives)
            return sum(each() is not None for each in lives)
        finally:
            gc.enable()

    assert asyncio.run(uncollected()) == 0
