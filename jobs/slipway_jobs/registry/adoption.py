"""Adoption of versions that were logged with ``mlflow.onnx.log_model``, without a digest.

Trust on first use: the content of the store at this moment is pinned. The logged model stays
unchanged; the artifact that is served is written beside it, and a tag of the version names it.
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from slipway.errors import Refused
from slipway.packaging import artifact
from slipway.packaging.onnx_file import understand
from slipway.packaging.onnx_graph import GraphInput, inputs_of, read
from slipway.registry.signing import sign
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import (
    CARD_FILE,
    EXAMPLE_FILE,
    NAME,
    NAME_RULE,
    SIGNATURE_FILE,
    ArtifactFormat,
    ArtifactManifest,
    Tag,
)
from slipway_contract.signature import Signature

from slipway_jobs.registry.logged import logged_example, logged_onnx
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

EXPERIMENT = "adoption"

Arrays = dict[str, np.ndarray[Any, Any]]


def adopt(version: Version, settings: Settings, tracking: Tracking) -> dict[str, Any]:
    """Pin the version and return the result as JSON.

    ``state`` is adopted, or unchanged when the version has a digest already. Raises Refused when it
    cannot be served; the reason names what to log instead.
    """
    result = {"model": version.name, "version": version.version}
    if Tag.DIGEST in version.tags:
        return {"state": "unchanged", **result, "digest": version.digest}
    if not NAME.fullmatch(version.name):
        raise Refused(
            f"{version.name!r} is not a name that can be served; rename the registered "
            f"model: {NAME_RULE}"
        )
    tags = {
        "slipway.model": version.name,
        "slipway.adopted.version": version.version,
        "slipway.adopted.by": settings.user,
    }
    with (
        tempfile.TemporaryDirectory() as temporary,
        tracking.run(f"{EXPERIMENT}-{version.name}", str(version), tags) as run,
    ):
        folder = Path(temporary)
        (folder / "artifact").mkdir()
        logged = tracking.download(version, folder / "logged")
        manifest = derive(logged, folder / "artifact", version, settings)
        signer = sign(folder / "artifact", version.name, settings.signing_key)
        with tracking.logged_model(run, version.name, tags) as model_id:
            tracking.upload(model_id, folder / "artifact")
            artifact.check(tracking.download(model_id, folder / "stored"), manifest.digest)
        if Tag.DIGEST in tracking.version(version.name, version.version).tags:
            raise Refused(f"{version} was pinned by another process in the meantime")
        # The digest is written last: it marks the version as pinned.
        form = ArtifactFormat.ONNX.value
        tags = {
            Tag.FORMAT: form,
            Tag.ARTIFACT: f"models:/{model_id}",
            **signer,
            Tag.DIGEST: manifest.digest,
        }
        tracking.tag(version, tags)
    return {"state": "adopted", **result, "digest": manifest.digest}


def derive(logged: Path, folder: Path, version: Version, settings: Settings) -> ArtifactManifest:
    """Write the artifact of the logged model into the folder and return its manifest."""
    graph = read(logged_onnx(logged))
    inputs = inputs_of(graph)
    row = example_row(logged_example(logged), inputs)
    declared = [output.name for output in graph.graph.output]
    graph, signature = understand(graph, inputs, row)
    left_out = sorted(set(declared) - {column.name for column in signature.outputs})
    (folder / ArtifactFormat.ONNX.file).write_bytes(graph.SerializeToString())
    request = signature.request(
        [{each.column.name: _plain(row[each.column.name], each) for each in inputs}]
    )
    provenance = {
        "adoptedBy": settings.user,
        **({"runId": version.run_id} if version.run_id else {}),
    }
    files = {
        SIGNATURE_FILE: signature.model_dump_json(indent=1, exclude_defaults=True).encode(),
        EXAMPLE_FILE: request.model_dump_json(exclude_none=True, indent=1).encode(),
        CARD_FILE: card(version, signature, left_out).encode(),
        "provenance.json": json.dumps(provenance, indent=1).encode(),
    }
    return artifact.write(folder, files, ArtifactFormat.ONNX)


def example_row(example: object, inputs: list[GraphInput]) -> Arrays:
    """Return one row in the graph's shapes: of the logged example, or zeros and empty strings."""
    try:
        return {
            each.column.name: _first(_part(example, each.column.name, inputs), each)
            for each in inputs
        }
    except (KeyError, ValueError, TypeError, IndexError):
        return {each.column.name: _first(_blank(each), each) for each in inputs}


def _part(example: Any, name: str, inputs: list[GraphInput]) -> Any:
    if example is None:
        raise KeyError(name)
    if isinstance(example, Mapping) or (len(inputs) > 1 and hasattr(example, "columns")):
        return example[name]
    if len(inputs) > 1:
        raise KeyError(name)
    return example


def _first(values: Any, each: GraphInput) -> np.ndarray[Any, Any]:
    given = np.asarray(values).reshape(-1, *each.dimensions)[[0]]
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise ValueError("a signature derived by trial allows no missing values")
    if each.dtype.kind == "O" and not all(
        isinstance(value, str) for value in given.reshape(-1).tolist()
    ):
        raise ValueError("not a text")
    return given.astype(each.dtype)


def _blank(each: GraphInput) -> np.ndarray[Any, Any]:
    return np.full((1, *each.dimensions), "" if each.dtype.kind == "O" else 0, each.dtype)


def _plain(row: np.ndarray[Any, Any], each: GraphInput) -> Any:
    values = row.reshape(-1).tolist()
    return values if each.column.shape else values[0]


def card(version: Version, signature: Signature, left_out: Sequence[str]) -> str:
    """Return the model card as Markdown. ``left_out`` are outputs that are not served."""
    lines = [
        f"# {version.name}, version {version.version}",
        "",
        "Logged manually and adopted unchanged. Training data, scores and intended use are not "
        "recorded.",
        "",
        "## Inputs",
        *(f"- {c.name}: {c.datatype} {list(c.shape)} per row" for c in signature.inputs),
        "",
        "## Outputs",
        *(f"- {c.name}: {c.datatype} {list(c.shape)} per row" for c in signature.outputs),
        *(f"- {name}: not served; it is no tensor or not per row" for name in left_out),
        "",
    ]
    return "\n".join(lines)
