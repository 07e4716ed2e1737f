"""Projects of a model: files of the template folder with the model's name."""

import re
from importlib.resources import files
from keyword import iskeyword
from pathlib import Path, PurePosixPath

from slipway.errors import WrongParameter

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
"""Names of Models."""
_FILES = (
    "README.md",
    "pyproject.toml",
    "model.yaml",
    "Dockerfile",
    "PACKAGE/__init__.py",
    "PACKAGE/train.py",
    "PACKAGE/task.py",
    "PACKAGE/sample.csv",
    "tests/test_train.py",
)
"""Paths in the project; the template has the same without folders."""


def create_project(name: str, folder: Path) -> list[PurePosixPath]:
    """Write the project of the model into a new folder and return the paths of its files.

    Raises WrongParameter for an invalid name, and for a folder that exists and is not empty.
    """
    if not _NAME.fullmatch(name):
        raise WrongParameter(
            f"name: {name!r} is not the name of a Model; give up to 40 lower-case letters, digits "
            "and hyphens, with a letter first"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongParameter(f"{folder}: exists and is not empty; give another --folder")
    package = name.replace("-", "_")
    if iskeyword(package):
        raise WrongParameter(f"name: {name!r} is a keyword of Python; give another name")
    template = files("slipway") / "template"
    paths = [PurePosixPath(each.replace("PACKAGE", package)) for each in _FILES]
    for source, path in zip(_FILES, paths, strict=True):
        text = (template / f"{PurePosixPath(source).name}.txt").read_text()
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("PACKAGE", package).replace("MODEL", name))
    return paths
