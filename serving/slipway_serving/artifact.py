"""An artifact on disk: signature, model file, provenance, example and model card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from slipway_contract.registry import CARD_FILE, EXAMPLE_FILE, SIGNATURE_FILE, ArtifactFormat
from slipway_contract.signature import Signature

from slipway_serving.errors import Refused, first_finding
from slipway_serving.predictor import Predictor

PROVENANCE_FILE = "provenance.json"
MODEL_SETTINGS_FILE = "model-settings.json"
"""Written last by the storage initializer: its presence means that every other file was verified.
"""
CARD_LIMIT = 2**18
"""Largest model card in bytes; a larger one is left out of the model's metadata."""


@dataclass(frozen=True)
class Artifact:
    """An artifact that the storage initializer has verified and placed in a folder."""

    folder: Path
    format: ArtifactFormat
    signature: Signature
    provenance: dict[str, Any]
    example: dict[str, Any] | None
    card: str | None

    @classmethod
    def read(cls, folder: Path, format: ArtifactFormat) -> Self:
        """Read all files but the model. Raises Refused with the name of the invalid file."""
        try:
            signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
        except OSError as error:
            raise Refused(f"{SIGNATURE_FILE} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise Refused(f"{SIGNATURE_FILE}: {first_finding(error)}") from error
        return cls(
            folder,
            format,
            signature,
            _object(folder / PROVENANCE_FILE) or {},
            _object(folder / EXAMPLE_FILE),
            _card(folder),
        )

    def load(self, threads: int = 1) -> Predictor:
        """Load the model and compare it with the signature. Raises Refused."""
        path = self.folder / self.format.file
        if not path.is_file():
            raise Refused(f"{path.name} is missing")
        if self.format is ArtifactFormat.ONNX:
            from slipway_serving.onnx_graph import OnnxGraph

            return OnnxGraph(path, self.signature, threads)
        if self.format is ArtifactFormat.RULES:
            from slipway_serving.rules import RulePredictor

            return RulePredictor(path, self.signature)
        from slipway_serving.estimator import Estimator

        return Estimator(path, self.format, self.signature)


def _card(folder: Path) -> str | None:
    path = folder / CARD_FILE
    if not path.is_file() or path.stat().st_size > CARD_LIMIT:
        return None
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"{CARD_FILE} is not text in UTF-8: {error.reason}") from error


def _object(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise Refused(f"{path.name} is not a JSON object")
    return content
