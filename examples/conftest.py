"""A tracking server and a trainer, for the tests of examples that train through the Jobs."""

from tests.jobs.conftest import mlflow_url, settings, tracking, trained

__all__ = ["mlflow_url", "settings", "tracking", "trained"]
