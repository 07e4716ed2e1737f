"""The objects of the local stack are those of the chart."""

import subprocess
import sys
from pathlib import Path

import slipway_local

from tests.chart.chart import CHARTS, PARAMETERS, render

OBJECTS = Path(slipway_local.__file__).parent / "objects"


def test_the_objects_of_the_local_stack_are_rendered_from_this_chart() -> None:
    rendering = render(OBJECTS / "values.yaml", more=PARAMETERS).text
    selected = subprocess.run(
        [sys.executable, CHARTS / "local_objects.py"],
        input=rendering,
        capture_output=True,
        text=True,
        check=True,
    )
    current = (OBJECTS / "chart.json").read_text()
    assert selected.stdout == current, "the chart has changed: run `make local-objects`"
