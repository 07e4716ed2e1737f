"""Adapter of ONNX Runtime: computes a model's outputs as serving does."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# Since 1.29 ONNX Runtime reports models and runs to its vendor, and stores a device id under HOME,
# unless this is set before it is loaded (its Privacy.md).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

Arrays = Mapping[str, np.ndarray[Any, Any]]


_NEWER = re.compile(
    r"Opset (\d+) is under development.*domain (\S+) is till opset (\d+)", re.DOTALL
)
_SOURCE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (/\S+:\d+ .*?\) (?=[A-Z]))?", re.DOTALL)


def run_onnx(model: bytes, feeds: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """Return the graph's outputs by name."""
    return load_onnx(model)(feeds)


def load_onnx(model: bytes) -> Callable[[Arrays], dict[str, np.ndarray[Any, Any]]]:
    """Return a function from inputs by name to outputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def explain(error: Exception) -> str:
    """Return ONNX Runtime's error in one line, without its source location."""
    if newer := _NEWER.search(str(error)):
        required, domain, known = newer.groups()
        return (
            f"it requires opset {required} of {domain}; ONNX Runtime {onnxruntime.__version__} "
            f"supports {known} and older ones"
        )
    return " ".join(_SOURCE.sub("", str(error)).split())
