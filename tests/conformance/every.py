"""A model that returns its inputs of every datatype, for Slipway's runtime and MLServer."""

import json
from pathlib import Path
from typing import Any

import onnx
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

VERSION = "3"
VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 2**8 - 1],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-(2**7), 2**7 - 1],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -65504.0],
    "FP32": [0.5, -3.4028234663852886e38],
    "FP64": [0.1, 1.7976931348623157e308, -0.0, 5e-324],
    "BYTES": ["", "naïve ✓"],
}
WIDTHS: dict[str, tuple[int, ...]] = {"FP64": (2,)}
"""Shape of a row of datatypes that are not scalar here."""
NAMES = {f"in_{datatype.lower()}": f"out_{datatype.lower()}" for datatype in VALUES}
EXAMPLE = {
    "inputs": [
        {
            "name": name,
            "shape": [2, *WIDTHS.get(datatype, ())],
            "datatype": datatype,
            "data": values,
        }
        for name, (datatype, values) in zip(NAMES, VALUES.items(), strict=True)
    ]
}
_ONNX = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}


def _graph() -> bytes:
    nodes, inputs, outputs = [], [], []
    for (given, back), datatype in zip(NAMES.items(), VALUES, strict=True):
        kind = getattr(onnx.TensorProto, _ONNX.get(datatype, datatype))
        shape = [None, *WIDTHS.get(datatype, ())]
        nodes.append(onnx.helper.make_node("Identity", [given], [back]))
        inputs.append(onnx.helper.make_tensor_value_info(given, kind, shape))
        outputs.append(onnx.helper.make_tensor_value_info(back, kind, shape))
    graph = onnx.helper.make_graph(nodes, "every", inputs, outputs)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10
    )
    return bytes(model.SerializeToString())


def write_artifact(folder: Path) -> None:
    """Write the folder that the storage initializer makes for Slipway's runtime."""
    folder.mkdir(parents=True)
    kinds = list(map(Datatype, VALUES))
    inputs, outputs = (
        tuple(
            Column(name=name, datatype=kind, shape=WIDTHS.get(kind, ()))
            for name, kind in zip(names, kinds, strict=True)
        )
        for names in (NAMES.keys(), NAMES.values())
    )
    (folder / "model.onnx").write_bytes(_graph())
    (folder / "signature.json").write_text(
        Signature(inputs=inputs, outputs=outputs).model_dump_json()
    )
    settings = {
        "implementation": "slipway_serving.model.SlipwayModel",
        "parameters": {"version": VERSION, "extra": {"format": "onnx"}},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))


def write_stock(folder: Path, name: str) -> None:
    """Write a folder for ``mlserver start``, with the metadata that MLServer requires."""
    folder.mkdir(parents=True)
    inputs, outputs = (
        [
            {"name": name, "datatype": datatype, "shape": [-1, *WIDTHS.get(datatype, ())]}
            for name, datatype in zip(names, VALUES, strict=True)
        ]
        for names in (NAMES.keys(), NAMES.values())
    )
    metadata = {
        "name": name,
        "platform": "echo",
        "versions": [VERSION],
        "inputs": inputs,
        "outputs": outputs,
    }
    settings = {**metadata, "implementation": "echo.Echo", "parameters": {"version": VERSION}}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    (folder / "echo.py").write_text(ECHO)


ECHO = '''
from mlserver import MLModel
from mlserver.errors import InferenceError
from mlserver.types import InferenceResponse, ResponseOutput


class Echo(MLModel):
    """Returns the requested outputs, like MLServer's own runtimes."""

    async def predict(self, payload):
        given = {each.name.replace("in_", "out_"): each for each in payload.inputs}
        wanted = [each.name for each in payload.outputs or ()] or list(given)
        for name in wanted:
            if name not in given:
                raise InferenceError(f"there is no output {name}")
        outputs = [
            ResponseOutput(name=name, shape=given[name].shape, datatype=given[name].datatype,
            data=given[name].data)
            for name in wanted
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
'''
