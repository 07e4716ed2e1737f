"""Models of user packages in the checkout: a package has its Models in YAML files of its folder."""

from pathlib import Path
from typing import Any

import yaml
from slipway_contract.model import Model

FOLDER = Path("examples")


def declared() -> dict[str, dict[str, Any]]:
    """Return the manifests of all Models of packages, by model."""
    files = sorted(FOLDER.glob("*/*.yaml"))
    found = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    return {each["metadata"]["name"]: each for each in found if each.get("kind") == "Model"}


def images() -> list[str]:
    """Return the images of the training Jobs; the packages are in the applications' environment."""
    trainings = [Model.model_validate(each).spec.training for each in declared().values()]
    return [each.job.image for each in trainings if each and each.job and each.job.image]
