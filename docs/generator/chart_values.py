"""Values of the Helm chart, by the tables of the chart's own README."""

from pathlib import Path

import yaml

from charts.values import read, readme

CHART = Path(__file__).parents[2] / "charts/slipway"
INTRODUCTION = """# Chart values

`helm install slipway charts/slipway --values FILE` takes these values.
[Operations](../how-to/operations.md) describes how to choose them.
"""


def page() -> str:
    """Return the page of all values."""
    values = read((CHART / "values.yaml").read_text())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return readme(values, chart, INTRODUCTION).partition("\n")[2]
