"""Settings of all tests: the groups of a worker process, and the profile of property tests."""

from importlib.util import find_spec
from typing import Any

import pytest

pytest_plugins = ("tests.budget",)

ONE_WORKER = ("examples/", "tests/identity/", "tests/jobs/", "tests/sdk/")
"""Folders whose tests share servers and trained models. One worker process runs all of a folder."""


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute tests by file, as ``--dist loadfile`` does, or by the folders above.

    Groups of tests (``--dist loadgroup``) have no effect in pytest 9 with pytest-xdist 3.8.
    """
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class ByFolder(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folder for folder in ONE_WORKER if file.startswith(folder)), file)

    return ByFolder(config, log)


if find_spec("hypothesis"):  # not in the environment of serving/
    from hypothesis import HealthCheck, settings

    # Machines that run tests are busy, so there is no deadline.
    # In CI, too, each run tries other examples.
    settings.register_profile(
        "busy",
        settings.get_profile("default"),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("busy")
