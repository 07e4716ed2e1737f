"""MLflow's model folder with ``MLmodel`` for a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING

from slipway.registry.flavors import save_description, save_onnx
from slipway.registry.tracking import Run
from slipway_contract.registry import ArtifactFormat
from slipway_contract.rules import RuleSet
from slipway_contract.signature import Signature

if TYPE_CHECKING:
    from slipway_jobs.formats.served import Exported


def save(exported: "Exported", folder: Path, signature: Signature, run: Run, model_id: str) -> None:
    """Write the model file and MLflow's own files into the folder."""
    if isinstance(exported, RuleSet):
        folder.mkdir()
        (folder / ArtifactFormat.RULES.file).write_text(exported.model_dump_json())
        save_description(folder, signature, run, model_id)
    else:
        save_onnx(exported, folder, signature, run, model_id)
