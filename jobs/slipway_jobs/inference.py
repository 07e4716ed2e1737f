"""The door to ONNX Runtime: a model's outputs for inputs, as serving computes them."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

# Since 1.29 ONNX Runtime reports models and runs to its maker, and keeps a device id under HOME, unless this is set before
# it is loaded (its Privacy.md).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

Arrays = Mapping[str, np.ndarray[Any, Any]]


def run_onnx(model: bytes, feeds: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """The graph's outputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; the session's advice on graphs is not for the log of a Job
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))
