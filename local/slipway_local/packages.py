"""Models of user packages in the checkout: folders with a Model that declares its training."""

from pathlib import Path
from typing import Any

import yaml
from slipway_contract.model import Model

FOLDER = Path("examples")


def declared() -> dict[str, dict[str, Any]]:
    """Return the manifest of each package's ``model.yaml`` with a training Job, by model."""
    found = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*/model.yaml"))]
    return {each["metadata"]["name"]: each for each in found if _image(each)}


def images() -> list[str]:
    """Return the images of the training Jobs; the packages are in the applications' environment."""
    return [_image(each) for each in declared().values()]


def _image(manifest: dict[str, Any]) -> str:
    training = Model.model_validate(manifest).spec.training
    return training.job.image or "" if training and training.job else ""
