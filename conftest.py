"""Settings of all tests: the groups of a worker process, and the profile of property tests."""

from importlib.util import find_spec

import pytest

pytest_plugins = ("tests.budget",)

SHARED_SERVERS = ("mlflow_url", "provider", "served")
"""Session fixtures that start a server. One worker runs all tests that use it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for ``--dist loadgroup``: by shared server, otherwise by file."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        server = next((each for each in SHARED_SERVERS if each in fixtures), None)
        item.add_marker(pytest.mark.xdist_group(server or item.nodeid.partition("::")[0]))


if find_spec("hypothesis"):  # not in the environment of serving/
    from hypothesis import HealthCheck, settings

    # Machines that run tests are busy, so there is no deadline.
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")
