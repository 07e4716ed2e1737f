"""A V2 server under test: its address, and a valid request for its model."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

DTYPES = {
    "BOOL": "?",
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
"""numpy's names of the datatypes with a fixed size."""

Tensor = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """One model of one server."""

    client: httpx.Client
    """Client with the server's base URL and credentials, without its own Accept-Encoding."""
    model: str
    version: str
    example: Mapping[str, Any]
    """A request with flat data; its tensors have one row or more."""
    echoes: Mapping[str, str] = field(default_factory=dict)
    """Output by the input whose values it returns; empty for other models."""

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}"

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def request(self, **changed: Any) -> dict[str, Any]:
        return {**copy.deepcopy(dict(self.example)), **changed}

    def infer(
        self, request: Mapping[str, Any], *raw: bytes, version: str | None = None, **headers: str
    ) -> httpx.Response:
        """POST a request; binary tensors follow its JSON."""
        content = orjson.dumps(request)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if raw:
            named = {
                "content-type": "application/octet-stream",
                "inference-header-content-length": str(len(content)),
                **named,
            }
        return self.post(b"".join([content, *raw]), version=version, **named)

    def post(self, body: bytes, *, version: str | None = None, **headers: str) -> httpx.Response:
        path = f"{self.path}/versions/{version}/infer" if version else f"{self.path}/infer"
        return self.client.post(
            path, content=body, headers={"content-type": "application/json", **headers}
        )

    def binary(self, **changed: Any) -> tuple[dict[str, Any], list[bytes]]:
        """Return the example with each tensor as binary data."""
        request, raw = self.request(**changed), []
        for tensor in request["inputs"]:
            raw.append(to_bytes(tensor.pop("datatype"), tensor.pop("data")))
            datatype = next(
                each["datatype"]
                for each in self.example["inputs"]
                if each["name"] == tensor["name"]
            )
            tensor |= {"datatype": datatype, "parameters": {"binary_data_size": len(raw[-1])}}
        return request, raw


def to_bytes(datatype: str, data: list[Any]) -> bytes:
    """Convert flat data to the form of the binary tensor data extension."""
    if datatype == "BYTES":
        texts = [value.encode() for value in data]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    array: NDArray[Any] = np.array(data, DTYPES[datatype])
    return array.tobytes()


def outputs(answer: httpx.Response) -> dict[str, Tensor]:
    """Return the tensors of a response by name, with flat ``data``; binary ones as bytes."""
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:300]}"
    length = answer.headers.get("inference-header-content-length")
    content = orjson.loads(answer.content[: int(length)] if length else answer.content)
    rest, found = answer.content[int(length) :] if length else b"", {}
    for tensor in content["outputs"]:
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is not None:
            tensor["data"], rest = rest[:size], rest[size:]
        while tensor["data"] and isinstance(tensor["data"][0], list):
            tensor["data"] = [value for row in tensor["data"] for value in row]
        found[tensor["name"]] = tensor
    assert not rest, "bytes that belong to no output"
    return found
