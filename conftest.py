"""Property tests judge results, not speed: machines that run tests are busy."""

from importlib.util import find_spec

pytest_plugins = ("tests.budget",)

if find_spec("hypothesis"):  # the environment of serving/ has none
    from hypothesis import HealthCheck, settings

    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")
