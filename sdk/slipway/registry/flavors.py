"""MLflow's own files in the folder of a model: ``MLmodel``, and what ``mlflow.onnx`` reads."""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway.registry.tracking import Run

if TYPE_CHECKING:
    from slipway.packaging.onnx_graph import Graph


def save_description(folder: Path, signature: Signature, run: Run, model_id: str) -> None:
    """Write ``MLmodel`` without a flavour: MLflow shows the signature and cannot run the model."""
    Model(
        run_id=run.id, model_id=model_id, model_uuid=model_id, signature=_signature(signature)
    ).save(folder / "MLmodel")


def save_onnx(model: "Graph", folder: Path, signature: Signature, run: Run, model_id: str) -> None:
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
