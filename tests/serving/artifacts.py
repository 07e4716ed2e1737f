"""Small real models as artifacts, written as training writes them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import skops.io
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from slipway_contract.registry import ArtifactFormat, ArtifactManifest, ManifestEntry
from slipway_contract.signature import Column, ImageSpec, Signature
from slipway_contract.v2 import Datatype

from tests.serving.counting import WORDS

Matrix = NDArray[np.float32]

PATIENT = Signature(
    inputs=(
        Column(name="age", datatype=Datatype.FP32, unit="a", minimum=0, maximum=120),
        Column(
            name="thal",
            datatype=Datatype.FP32,
            codes={3: "normal", 6: "fixed", 7: "reversible"},
            missing=True,
        ),
        Column(
            name="chol", datatype=Datatype.FP32, unit="mg/dL", minimum=50, maximum=700, missing=True
        ),
    ),
    outputs=(
        Column(name="label", datatype=Datatype.INT64),
        Column(name="probability", datatype=Datatype.FP32),
    ),
)
DIGITS = Signature(
    inputs=(Column(name="pixels", datatype=Datatype.FP32, shape=(64,), minimum=0, maximum=16),),
    outputs=(
        Column(name="label", datatype=Datatype.INT64),
        Column(name="probabilities", datatype=Datatype.FP32, shape=(10,)),
    ),
)
SCANS = Signature(
    inputs=(
        DIGITS.inputs[0].model_copy(
            update={"image": ImageSpec(width=8, height=8, mode="L", white=16, ground="black")}
        ),
        Column(name="age", datatype=Datatype.FP32, minimum=0, maximum=120, missing=True),
    ),
    outputs=DIGITS.outputs,
)
TEXT = Signature(
    inputs=(Column(name="text", datatype=Datatype.BYTES, max_length=2000),),
    outputs=(
        Column(name="compound", datatype=Datatype.FP32, minimum=-1, maximum=1),
        Column(
            name="label",
            datatype=Datatype.INT64,
            codes={0: "negative", 1: "neutral", 2: "positive"},
        ),
    ),
)
PROVENANCE = {
    "runId": "0123456789abcdef",
    "dataset": {"name": "made up", "digest": "sha256:00", "licence": "CC0-1.0"},
}


@dataclass(frozen=True)
class Fitted:
    """An estimator, rows that it was not fitted on, and its model signature."""

    estimator: Any
    rows: Matrix
    signature: Signature

    def request(self, rows: Matrix | None = None) -> dict[str, Any]:
        """Return the V2 request of the rows; NaN is written as null."""
        rows = self.rows if rows is None else rows
        widths = [int(np.prod(column.shape)) for column in self.signature.inputs]
        parts = np.split(rows, np.cumsum(widths)[:-1], axis=1)
        return {
            "inputs": [
                {
                    "name": column.name,
                    "datatype": column.datatype.value,
                    "shape": [len(rows), *column.shape],
                    "data": [None if np.isnan(value) else float(value) for value in part.ravel()],
                }
                for column, part in zip(self.signature.inputs, parts, strict=True)
            ]
        }


def fit_patients() -> Fitted:
    """Fit a forest on three inputs, of which two may be missing and are imputed by the model."""
    rng = np.random.default_rng(0)
    rows = np.column_stack(
        [rng.integers(20, 90, 300), rng.choice([3, 6, 7], 300), rng.integers(120, 400, 300)]
    ).astype(np.float32)
    sick = (rows[:, 0] > 55).astype(int) ^ (rows[:, 1] == 7)
    rows[::7, 1] = np.nan
    rows[::5, 2] = np.nan
    estimator = make_pipeline(
        SimpleImputer(), RandomForestClassifier(10, max_depth=5, random_state=0)
    ).fit(rows[:250], sick[:250])
    return Fitted(estimator, rows[250:], PATIENT)


def fit_digits() -> Fitted:
    """Fit a logistic regression on the 8 × 8 images of scikit-learn."""
    images, labels = load_digits(return_X_y=True)
    rows = images.astype(np.float32)
    return Fitted(
        LogisticRegression(max_iter=2000).fit(rows[:500], labels[:500]), rows[500:540], DIGITS
    )


def fit_scans() -> Fitted:
    """Fit a model of digits, as an image input, and ages."""
    images, labels = load_digits(return_X_y=True)
    ages = np.random.default_rng(0).integers(20, 90, len(images))
    rows = np.column_stack([images, ages]).astype(np.float32)
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(
        rows[:500], labels[:500]
    )
    return Fitted(estimator, rows[500:540], SCANS)


def to_onnx(fitted: Fitted) -> bytes:
    """Export the estimator with the signature's names; ``probability`` is that of class 1."""
    widths = [(column.name, int(np.prod(column.shape))) for column in fitted.signature.inputs]
    graph = convert_sklearn(
        fitted.estimator,
        initial_types=[(name, FloatTensorType([None, width])) for name, width in widths],
        options={id(fitted.estimator): {"zipmap": False}},
        target_opset=21,
    )
    if "probability" in {column.name for column in fitted.signature.outputs}:
        graph.graph.initializer.append(
            onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [], [1])
        )
        graph.graph.node.append(
            onnx.helper.make_node("Gather", ["probabilities", "one"], ["probability"], axis=1)
        )
        graph.graph.output.append(
            onnx.helper.make_tensor_value_info("probability", onnx.TensorProto.FLOAT, [None])
        )
    return bytes(graph.SerializeToString())


def model_file(fitted: Fitted, format: ArtifactFormat, path: Path) -> None:
    """Write the estimator in the format."""
    if format is ArtifactFormat.ONNX:
        path.write_bytes(to_onnx(fitted))
    elif format is ArtifactFormat.SKOPS:
        skops.io.dump(fitted.estimator, path)
    else:
        import joblib  # type: ignore[import-untyped]

        joblib.dump(fitted.estimator, path)


def write_artifact(
    folder: Path, fitted: Fitted, format: ArtifactFormat = ArtifactFormat.ONNX
) -> ArtifactManifest:
    """Write all files of an artifact and their manifest, as training does."""
    folder.mkdir(parents=True, exist_ok=True)
    model_file(fitted, format, folder / format.file)
    return _described(folder, fitted.signature, fitted.request(fitted.rows[:1]), format)


def write_rules(folder: Path) -> ArtifactManifest:
    """Write an artifact of the rules of the tests."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ArtifactFormat.RULES.file).write_text(WORDS.model_dump_json())
    return _described(folder, TEXT, text_request("a good day"), ArtifactFormat.RULES)


def write_graph(folder: Path, operator: str) -> ArtifactManifest:
    """Write an artifact of one ONNX operator from FP32 ``x`` to FP32 ``y``."""
    value = onnx.helper.make_tensor_value_info
    x, y = (value(name, onnx.TensorProto.FLOAT, [None]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node(operator, ["x"], ["y"])], "one", [x], [y])
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10
        ),
        folder / ArtifactFormat.ONNX.file,
    )
    signature = Signature(
        inputs=(Column(name="x", datatype=Datatype.FP32),),
        outputs=(Column(name="y", datatype=Datatype.FP32),),
    )
    example = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    return _described(folder, signature, example, ArtifactFormat.ONNX)


def text_request(*texts: str) -> dict[str, Any]:
    """Return the V2 request of the texts."""
    return {
        "inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
        ]
    }


def _described(
    folder: Path, signature: Signature, example: dict[str, Any], format: ArtifactFormat
) -> ArtifactManifest:
    (folder / "signature.json").write_text(signature.model_dump_json())
    (folder / "input_example.json").write_text(json.dumps(example))
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
    (folder / "model_card.md").write_text("1. A model for tests.\n")
    return write_manifest(folder, format)


def write_manifest(
    folder: Path, format: ArtifactFormat = ArtifactFormat.ONNX, skip: Sequence[str] = ()
) -> ArtifactManifest:
    """List all files of the folder in its manifest."""
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "manifest.sig")
    ]
    entries = [
        ManifestEntry(
            path=path.relative_to(folder).as_posix(),
            size=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in paths
        if path.name not in skip
    ]
    manifest = ArtifactManifest(format=format, files=tuple(entries))
    (folder / "manifest.json").write_bytes(manifest.content())
    return manifest


def write_model_settings(
    folder: Path, format: ArtifactFormat = ArtifactFormat.ONNX, digest: str = "sha256:" + "0" * 64
) -> None:
    """Write the settings that the storage initializer writes beside a verified artifact."""
    extra = {"registeredModel": "heart", "digest": digest, "format": format.value}
    content = {
        "implementation": "slipway_serving.model.SlipwayModel",
        "parameters": {"version": "3", "extra": extra},
    }
    (folder / "model-settings.json").write_text(json.dumps(content))
