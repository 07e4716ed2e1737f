"""Renderings of the chart, each created once."""

from pathlib import Path

import pytest

from tests.chart.chart import CHART, KIND_VALUES, PARAMETERS, VALUES, Rendering, render
from tests.support.processes import program


@pytest.fixture(scope="session", autouse=True)
def helm() -> str:
    return program("helm")


@pytest.fixture(scope="session")
def default(helm: str) -> Rendering:  # noqa: ARG001 - requires helm
    """Render the chart with its defaults."""
    return render()


@pytest.fixture(scope="session")
def kind(helm: str) -> Rendering:  # noqa: ARG001
    """Render the chart with the values of the kind cluster, which has the sample models."""
    return render(KIND_VALUES, more=PARAMETERS)


@pytest.fixture(scope="session")
def everything(helm: str) -> Rendering:  # noqa: ARG001
    """Render the chart with all options enabled."""
    return render(CHART / "ci" / "everything.yaml")


@pytest.fixture(scope="session")
def external(helm: str) -> Rendering:  # noqa: ARG001
    """Render the chart with external databases, tracking server and issuer."""
    return render(CHART / "ci" / "external.yaml")


@pytest.fixture(scope="session")
def public(helm: str) -> Rendering:  # noqa: ARG001
    """Render the chart with public addresses and existing Secrets."""
    return render(CHART / "ci" / "public.yaml")


@pytest.fixture(scope="session", params=VALUES, ids=lambda path: path.stem)
def each(helm: str, request: pytest.FixtureRequest) -> Rendering:  # noqa: ARG001
    """Render the chart with each set of values in turn."""
    values: Path = request.param
    return render(values)
