"""Sample bodies: the JSON files of tests/testdata."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "testdata"


def testdata(name: str) -> Any:
    """Return the content of ``tests/testdata/NAME.json``."""
    return json.loads((_FOLDER / f"{name}.json").read_text())
