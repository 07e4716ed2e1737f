"""The platform is free of the sample models: these are packages of users, in examples/."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAMPLES = re.compile(r"\b(ecg|imagenet|sentiment|temperature|vader)", re.IGNORECASE)
"""Sample models whose names are not also examples in docstrings, as heart is."""
PLATFORM = (
    "charts/slipway", "cluster", "contract", "controller", "gateway", "jobs", "sdk", "serving",
)  # fmt: skip
SOURCES = {".json", ".md", ".py", ".sh", ".toml", ".tpl", ".txt", ".yaml"}
MADE = re.compile(r"/build/|\.egg-info/")
"""Files that an installation leaves beside the sources."""


@pytest.mark.parametrize("folder", PLATFORM)
def test_no_file_of_the_platform_names_a_sample_model(folder: str) -> None:
    files = [
        file
        for file in (ROOT / folder).rglob("*")
        if file.suffix in SOURCES and not MADE.search(file.as_posix())
    ]
    assert files
    named = {
        f"{file.relative_to(ROOT)}: {found[0]}"
        for file in files
        if (found := SAMPLES.search(file.read_text()))
    }
    assert named == set()
