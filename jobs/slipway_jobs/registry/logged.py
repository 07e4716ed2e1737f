"""MLflow's model folder with ``MLmodel``: written for trained models, read for adopted ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.models import Model
from slipway.errors import Refused
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


def logged_onnx(folder: Path) -> Path:
    """Return the path of the graph in a folder that ``mlflow.onnx.log_model`` wrote.

    Raises Refused when it is a model of another kind.
    """
    try:
        flavors = Model.load(str(folder)).flavors
    except MlflowException as error:
        raise Refused(f"the logged folder is not an MLflow model: {error}") from error
    if "onnx" not in flavors:
        kinds = ", ".join(sorted(flavors.keys() - {"python_function"})) or "code"
        raise Refused(
            f"it was logged as {kinds}, which could run any code; convert it to ONNX and use "
            "mlflow.onnx.log_model"
        )
    path = (folder / str(flavors["onnx"].get("data", "model.onnx"))).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise Refused("its MLmodel names a graph file that does not exist")
    return path


def logged_example(folder: Path) -> Any:
    """Return the logged input example (array, data frame or dictionary), or None."""
    try:
        return Model.load(str(folder)).load_input_example(str(folder))
    except (MlflowException, OSError, ValueError):
        return None
