"""Settings of property tests, which have no deadline: test machines are busy."""

from importlib.util import find_spec

pytest_plugins = ("tests.budget",)

if find_spec("hypothesis"):  # not in the environment of serving/
    from hypothesis import HealthCheck, settings

    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")
