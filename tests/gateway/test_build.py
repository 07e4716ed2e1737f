"""The composition of the gateway: small builders, and planes that a process can lack."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from slipway_gateway import build

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
