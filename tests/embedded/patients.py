"""Inputs of the sample models."""

from typing import Any

PATIENT: dict[str, Any] = {
    "age": 67, "sex": 1, "cp": 4, "trestbps": 160, "chol": 286, "fbs": 0, "restecg": 2, "thalach": 108,
    "exang": 1, "oldpeak": 1.5, "slope": 2, "ca": 3, "thal": 3,
}  # fmt: skip


def v2(row: dict[str, Any], **changes: dict[str, Any]) -> dict[str, Any]:
    """A V2 request of one row; ``changes`` replaces parts of single tensors."""
    tensors = [{"name": name, "shape": [1], "datatype": "FP32", "data": [value]} for name, value in row.items()]
    return {"inputs": [{**tensor, **changes.get(str(tensor["name"]), {})} for tensor in tensors]}


def pixels(values: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    """A V2 request of one picture for `digits`."""
    return {"inputs": [{"name": "pixels", "shape": shape or [1, len(values)], "datatype": "FP32", "data": values}]}
