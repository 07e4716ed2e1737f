"""MLflow's model folder with ``MLmodel``: written for trained models, read for adopted ones."""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from slipway_contract.registry import ArtifactFormat
from slipway_contract.rules import RuleSet
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.errors import Refused
from slipway_jobs.registry.tracking import Run

if TYPE_CHECKING:
    from slipway_jobs.formats.onnx_graph import Graph
    from slipway_jobs.formats.served import Exported


def save(exported: "Exported", folder: Path, signature: Signature, run: Run, model_id: str) -> None:
    """Write the model file and MLflow's own files into the folder."""
    if isinstance(exported, RuleSet):
        folder.mkdir()
        (folder / ArtifactFormat.RULES.file).write_text(exported.model_dump_json())
        # No flavour, because MLflow cannot run rules; it shows the signature.
        Model(
            run_id=run.id, model_id=model_id, model_uuid=model_id, signature=_signature(signature)
        ).save(folder / "MLmodel")
    else:
        _save_onnx(exported, folder, signature, run, model_id)


def _save_onnx(model: "Graph", folder: Path, signature: Signature, run: Run, model_id: str) -> None:
    """Write ``model.onnx`` and the files that ``mlflow.onnx.load_model`` and pyfunc read."""
    import mlflow.onnx  # takes a second to import; only training needs it

    mlflow.onnx.save_model(
        model,
        str(folder),
        mlflow_model=Model(run_id=run.id, model_id=model_id, model_uuid=model_id),
        signature=_signature(signature),
        pip_requirements=[
            f"{package}=={metadata.version(package)}"
            for package in ("mlflow", "onnx", "onnxruntime")
        ],
        save_as_external_data=False,
    )


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


def _signature(signature: Signature) -> ModelSignature:
    return ModelSignature(_schema(signature.inputs, (1,)), _schema(signature.outputs, ()))


def _schema(columns: tuple[Column, ...], scalar: tuple[int, ...]) -> Schema:
    return Schema(
        [
            TensorSpec(_dtype(column), (-1, *(column.shape or scalar)), column.name)
            for column in columns
        ]
    )


def _dtype(column: Column) -> np.dtype[Any]:
    """Return the type of a column for MLflow, whose texts are no objects."""
    return np.dtype("U" if column.datatype is Datatype.BYTES else column.datatype.dtype)
