"""Registration of external models with a real MLflow server."""

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
from onnx import ModelProto, TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from slipway.errors import CorruptTable, Refused, SlipwayError, WrongParameter
from slipway.packaging import artifact
from slipway.packaging.inference import run_onnx
from slipway.registry.tracking import Tracking
from slipway_contract.registry import NAME_RULE, ArtifactFormat, Tag
from slipway_contract.signature import Column, ImageSpec, Signature
from slipway_contract.v2 import Datatype, parse_request
from slipway_jobs.imports.registration import RegistrationRequest, register
from slipway_jobs.imports.source import fetch
from slipway_jobs.settings import Settings

from tests.support.http_server import Response, http_server

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(80, 3)).astype(np.float32)
LABELS = (FEATURES.sum(axis=1) > 0).astype(int) + (FEATURES[:, 0] > 1)
NAMES = {0: "tench", 1: "goldfish", 2: "great white shark"}
IMAGE = ImageSpec(
    width=8, height=8, layout="CHW", mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)
)
IMAGES = Signature(
    inputs=(Column(name="image", datatype=Datatype.FP32, shape=(3, 8, 8), image=IMAGE),),
    outputs=(
        Column(name="label", datatype=Datatype.INT64, codes=NAMES),
        Column(name="probabilities", datatype=Datatype.FP32, shape=(3,), minimum=0, maximum=1),
    ),
)
Proto = ModelProto


def value(name: str, kind: int, shape: list[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray[Any, Any]] | None = None, opset: int = 18,
) -> Proto:  # fmt: skip
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    made = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def conv_net(height: object = 8) -> Proto:
    """Return a network like those for ImageNet, with the best class as an output.

    It has a convolution, a pool over the whole image, a linear layer and softmax.
    """
    weights = {
        "w": RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "dense": RANDOM.normal(size=(4, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    image = value("image", TensorProto.FLOAT, ["N", 3, height, height])
    outputs = [
        value("label", TensorProto.INT64, None),
        value("probabilities", TensorProto.FLOAT, None),
    ]
    return graph(nodes, [image], outputs, weights)


def plain(
    shape: list[Any], op: str = "Identity", opset: int = 18, kind: int = TensorProto.FLOAT
) -> Proto:
    nodes = [helper.make_node(op, ["x"], ["y"])]
    return graph(nodes, [value("x", kind, shape)], [value("y", kind, None)], opset=opset)


def saved(folder: Path, model: Proto, name: str = "model.onnx") -> str:
    (folder / name).write_bytes(model.SerializeToString())
    return str(folder / name)


def saved_skops(folder: Path, estimator: Any) -> str:
    skops.io.dump(estimator, folder / "model.skops")
    return str(folder / "model.skops")


Import = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture
def imported(settings: Settings, tracking: Tracking, tmp_path: Path) -> Import:
    """``imported(name, file, …)`` registers a model and returns the result and the artifact."""

    def run(name: str, file: str, **more: Any) -> tuple[dict[str, Any], Path]:
        result = register(RegistrationRequest(name, file, **more), settings, tracking)
        folder = tracking.download(
            tracking.version(name, result["version"]), tmp_path / f"{name}-stored"
        )
        artifact.check(folder, result["digest"])
        return result, folder

    return run


def refused(file: str, settings: Settings, tracking: Tracking, **more: Any) -> str:
    """Return the one-line reason of a rejected registration; nothing is registered."""
    with pytest.raises(SlipwayError) as caught:
        register(RegistrationRequest("never", file, **more), settings, tracking)
    assert tracking.aliased("never", "champion") is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_a_network_for_images_is_imported_without_code(
    imported: Import, tracking: Tracking, tmp_path: Path
) -> None:
    images = RANDOM.normal(size=(5, 3, 8, 8)).astype(np.float32)
    net = conv_net(height="free")
    expected = run_onnx(net.SerializeToString(), {"image": images})
    np.savez(tmp_path / "expected.npz", image=images, **expected)  # type: ignore[arg-type]
    result, folder = imported(
        "images", saved(tmp_path, net), signature=IMAGES.model_dump_json(exclude_defaults=True),
        expected=str(tmp_path / "expected.npz"), licence="Apache-2.0", source="a paper",
        dataset="ImageNet",
        use="Names what is shown.",
    )  # fmt: skip
    assert result["format"] == "onnx"
    assert result["parity"] == {
        "against": "expected.npz",
        "rows": 5,
        "differences": {"label": 0.0, "probabilities": 0.0},
    }
    assert Signature.model_validate_json((folder / "signature.json").read_bytes()) == IMAGES
    IMAGES.check(parse_request((folder / "input_example.json").read_bytes()).inputs)
    tags = tracking.version("images", result["version"]).tags
    assert (tags[Tag.DATASET], tags[Tag.FORMAT]) == ("ImageNet", "onnx")
    card = (folder / "model_card.md").read_text()
    assert "Names what is shown." in card
    assert "compared with expected.npz on 5 rows" in card
    assert "an image of 8 x 8" in card
    recorded = json.loads((folder / "provenance.json").read_text())["import"]
    assert recorded["sha256"] == hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    assert (recorded["by"], recorded["licence"], recorded["source"], recorded["file"]) == (
        "ada",
        "Apache-2.0",
        "a paper",
        "model.onnx",
    )


def test_a_missing_signature_is_derived_by_trial(imported: Import, tmp_path: Path) -> None:
    model = to_onnx(LogisticRegression().fit(FEATURES, LABELS), FEATURES[:1])
    result, folder = imported("by-trial", saved(tmp_path, model))
    signature = Signature.model_validate_json((folder / "signature.json").read_bytes())
    assert [(c.name, c.shape) for c in (*signature.inputs, *signature.outputs)] == [
        ("X", (3,)), ("output_label", ()), ("output_probability", (3,)),
    ]  # fmt: skip
    assert result["parity"] is None
    assert (
        "not verified, because no expected outputs were given"
        in (folder / "model_card.md").read_text()
    )


def test_an_estimator_is_served_as_an_equivalent_graph(imported: Import, tmp_path: Path) -> None:
    table = pd.DataFrame(FEATURES, columns=["age", "height", "weight"])
    forest = RandomForestClassifier(10, random_state=0).fit(table, LABELS > 0)
    expected = table.assign(
        label=forest.predict(table).astype(int), probability=forest.predict_proba(table)[:, 1]
    )
    expected.to_csv(tmp_path / "expected.csv", index=False)
    result, folder = imported(
        "forest", saved_skops(tmp_path, forest), expected=str(tmp_path / "expected.csv")
    )
    assert (result["format"], result["parity"]["rows"]) == ("onnx", 80)
    assert (folder / "model.onnx").is_file()
    example = parse_request((folder / "input_example.json").read_bytes())
    assert [tensor.name for tensor in example.inputs] == ["age", "height", "weight"]


def test_an_estimator_without_a_graph_is_served_as_skops(imported: Import, tmp_path: Path) -> None:
    mean = DummyRegressor().fit(FEATURES, FEATURES[:, 0])
    result, folder = imported("dummy", saved_skops(tmp_path, mean))
    assert result["format"] == ArtifactFormat.SKOPS
    assert (folder / "model.skops").read_bytes() == (tmp_path / "model.skops").read_bytes()
    assert "it has no ONNX graph" in (folder / "model_card.md").read_text()


def test_a_regressor_is_compared_on_generated_rows_by_default(
    imported: Import, tmp_path: Path
) -> None:
    line = LinearRegression().fit(FEATURES, FEATURES.sum(axis=1))
    result, _ = imported("line", saved_skops(tmp_path, line))
    assert result["format"] == "onnx"
    assert (result["parity"]["against"], result["parity"]["rows"]) == (
        "the estimator, on generated rows",
        256,
    )


def sequence() -> Proto:
    """Return a graph with a list of tensors and a tensor as outputs."""
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["y"], axis=1),
        helper.make_node("Identity", ["x"], ["z"]),
    ]
    out = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    return graph(
        nodes, [value("x", TensorProto.FLOAT, ["n", 2])], [out, value("z", TensorProto.FLOAT, None)]
    )


def external() -> Proto:
    model = conv_net()
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    return model


def mixing() -> Proto:
    """Return a graph that subtracts the mean of the rows, like a normalisation in training mode."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"]),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    axes = {"axes": np.array([0], np.int64)}
    return graph(
        nodes,
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, None)],
        axes,
    )


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            plain([1, 3]),
            (
                "input 'x' of the graph takes a fixed number of rows: export it with a free "
                "first dimension"
            ),
        ),
        (
            plain(["n", "free"]),
            "input 'x' of the graph has more than one free dimension: only the first may be free",
        ),
        (
            plain(["n", 3], opset=99),
            "model.onnx cannot be run: it requires opset 99 of ai.onnx; ONNX Runtime",
        ),
        (plain(["n", 3], "NoSuchOperator"), "NoSuchOperator"),
        (plain(["n", 3], kind=TensorProto.COMPLEX64), "model.onnx cannot be run"),
        (sequence(), "output 'y' of the graph is not a tensor: V2 has no sequences or maps"),
        (external(), "model.onnx has its weights in other files"),
        (mixing(), "output 'y' of a row depends on other rows"),
        (plain(["n", 3], "Size"), "model.onnx cannot be run"),
    ],
    ids=[
        "fixed-rows",
        "free-width",
        "opset",
        "operator",
        "complex",
        "sequence",
        "external",
        "mixing",
        "ill-typed",
    ],
)
def test_a_graph_that_cannot_be_served_is_refused(
    settings: Settings, tracking: Tracking, tmp_path: Path, model: Proto, reason: str
) -> None:
    assert reason in refused(saved(tmp_path, model), settings, tracking)


def signature(**changes: Any) -> str:
    """Return the signature of ``plain(["n", 3])`` with changes."""
    column = {"name": "x", "datatype": "FP32", "shape": [3]}
    output = {"name": "y", "datatype": "FP32", "shape": [3]}
    return json.dumps(
        {
            "inputs": [column | changes.get("input", {})],
            "outputs": [output | changes.get("output", {})],
        }
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            signature(input={"name": "pixels"}),
            "the signature has the input 'pixels'; the graph takes x",
        ),
        (
            signature(output={"name": "score"}),
            "the signature has the output 'score'; the graph has y",
        ),
        (
            signature(input={"shape": [4]}),
            "input 'x' of the graph has the shape ['rows', 3]; the signature has [4] per row",
        ),
        (
            signature(input={"datatype": "INT64"}),
            "input 'x' of the graph is FP32; the signature has INT64",
        ),
        (
            signature(output={"datatype": "INT64"}),
            "output 'y' of the graph is FP32; the signature has INT64",
        ),
        (
            signature(output={"shape": []}),
            "output 'y' of the graph has the shape [3] per row; the signature has []",
        ),
        ('{"inputs": []}', "the signature is invalid: inputs: "),
        ("{no JSON", "the signature is invalid: "),
    ],
    ids=[
        "input",
        "output",
        "shape",
        "datatype",
        "output-datatype",
        "output-shape",
        "incomplete",
        "no-json",
    ],
)
def test_a_signature_that_does_not_match_the_graph_is_refused(
    settings: Settings, tracking: Tracking, tmp_path: Path, given: str, reason: str
) -> None:
    assert reason in refused(saved(tmp_path, plain(["n", 3])), settings, tracking, signature=given)


def test_an_example_that_does_not_match_the_signature_is_refused(
    settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    example = '{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'
    reason = refused(saved(tmp_path, plain(["n", 3])), settings, tracking, example=example)
    assert reason == (
        "the example does not fit the signature: x: shape [1, 2] does not fit; expected [rows, 3]"
    )


def test_broken_parity_is_refused_by_output_and_row(
    settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    wrong = FEATURES[:4].copy()
    wrong[2, 1] += 0.01
    np.savez(tmp_path / "expected.npz", x=FEATURES[:4], y=wrong)
    reason = refused(
        saved(tmp_path, plain(["n", 3])),
        settings,
        tracking,
        expected=str(tmp_path / "expected.npz"),
    )
    assert reason.startswith("parity is broken: output 'y' of row 2 is [")
    assert reason.endswith(
        "expected.npz has " + str(wrong[2].tolist()) + " (1 of 4 rows differ by more than 0.0001)"
    )


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": FEATURES}, "has none of the outputs y"),
        ({"y": FEATURES}, "has no x, which the model takes"),
        (
            {"x": FEATURES, "y": FEATURES, "z": FEATURES},
            "has 'z', which is no input or output of the model",
        ),
        ({"x": FEATURES, "y": FEATURES[:3]}, "must have the same number of rows"),
        ({"x": FEATURES, "y": np.array([{}])}, "is not an .npz file of plain arrays"),
    ],
    ids=["no-outputs", "no-inputs", "another-name", "rows", "pickle"],
)
def test_invalid_files_of_expected_outputs_are_refused(
    settings: Settings, tracking: Tracking, tmp_path: Path, arrays: dict[str, Any], reason: str
) -> None:
    np.savez(tmp_path / "expected.npz", **arrays)
    assert reason in refused(
        saved(tmp_path, plain(["n", 3])),
        settings,
        tracking,
        expected=str(tmp_path / "expected.npz"),
    )


def test_a_table_with_a_wrong_value_is_refused_by_its_row(
    settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    (tmp_path / "expected.csv").write_text('x,y\n"[1, 2, 3]","[1, 2, 3]"\nnot a list,"[1, 2, 3]"\n')
    with pytest.raises(
        CorruptTable, match=r"expected\.csv, row 2: x: 'not a list' is not a JSON list"
    ):
        register(
            RegistrationRequest(
                "never", saved(tmp_path, plain(["n", 3])), expected=str(tmp_path / "expected.csv")
            ),
            settings,
            tracking,
        )


def archive(path: Path, member: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, content)


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("model.pkl", lambda path: path.write_bytes(b"anything"), "model.pkl is a pickle"),
        (
            "model.onnx",
            lambda path: path.write_bytes(pickle.dumps(os.getcwd)),
            "model.onnx is a pickle",
        ),
        (
            "model.skops",
            lambda path: archive(path, "data.bin", pickle.dumps(os.getcwd)),
            "model.skops is a pickle",
        ),
        (
            "model.skops",
            lambda path: archive(path, "notes.txt", b"hello"),
            "model.skops is not a skops file that can be read",
        ),
        (
            "model.onnx",
            lambda path: path.write_bytes(b"<html>not found</html>"),
            "model.onnx is not an ONNX model",
        ),
        (
            "model.onnx",
            lambda path: path.write_bytes(b""),
            "model.onnx is not an ONNX model: it has no graph",
        ),
    ],
    ids=["named-so", "pickle", "pickle-inside", "zip", "html", "empty"],
)
def test_a_file_that_is_no_model_is_refused(
    settings: Settings,
    tracking: Tracking,
    tmp_path: Path,
    name: str,
    write: Callable[[Path], object],
    reason: str,
) -> None:
    write(tmp_path / name)
    assert reason in refused(str(tmp_path / name), settings, tracking)


def test_an_estimator_with_a_function_in_it_is_refused_by_its_type(
    settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    estimator = make_pipeline(FunctionTransformer(os.path.join), LinearRegression())
    estimator[-1].fit(FEATURES, FEATURES[:, 0])
    reason = refused(saved_skops(tmp_path, estimator), settings, tracking)
    assert reason == (
        "model.skops has types that are not on the fixed list of trusted ones: posixpath.join; "
        "use another transformer of scikit-learn in its place, or export the model to ONNX and log "
        "that file"
    )


def test_an_estimator_that_is_not_fitted_is_refused(
    settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    assert "is not fitted" in refused(
        saved_skops(tmp_path, LogisticRegression()), settings, tracking
    )


def test_a_file_above_the_limit_is_refused(
    settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    file = saved(tmp_path, conv_net())
    reason = refused(file, settings.model_copy(update={"import_limit": 100}), tracking)
    assert reason == "model.onnx is larger than 100 bytes, the import limit (SLIPWAY_IMPORT_LIMIT)"


@pytest.mark.parametrize("name", ["../x", "squeezenet1.1", "my model", "x\n", ""])
def test_an_invalid_model_name_is_a_wrong_parameter_with_the_rule(name: str) -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(WrongParameter, match=f"is not a name that can be served; {NAME_RULE}"):
        register(
            RegistrationRequest(name, "no such file"),
            Settings(MLFLOW_TRACKING_URI=nowhere),
            Tracking(nowhere),
        )


def test_an_estimator_is_served_directly_on_request(imported: Import, tmp_path: Path) -> None:
    line = LinearRegression().fit(FEATURES, FEATURES.sum(axis=1))
    result, folder = imported("as-it-is", saved_skops(tmp_path, line), serve_estimator=True)
    assert result["format"] == ArtifactFormat.SKOPS
    assert "served directly." in (folder / "model_card.md").read_text()


def test_a_graph_cannot_be_served_as_an_estimator(
    settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    reason = refused(saved(tmp_path, conv_net()), settings, tracking, serve_estimator=True)
    assert reason == "--format skops: model.onnx is not a skops file; leave the option out"


def test_a_text_is_imported_with_its_example(imported: Import, tmp_path: Path) -> None:
    example = '{"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["hello"]}]}'
    _, folder = imported(
        "text", saved(tmp_path, plain(["n", 1], kind=TensorProto.STRING)), example=example
    )
    assert parse_request((folder / "input_example.json").read_bytes()).inputs[0].data == ["hello"]


def test_the_example_is_a_row_with_finite_outputs(imported: Import, tmp_path: Path) -> None:
    _, folder = imported("log", saved(tmp_path, plain(["n", 3], "Log")))
    values = parse_request((folder / "input_example.json").read_bytes()).inputs[0].data
    assert np.isfinite(np.log(np.array(values, np.float32))).all()


def test_expected_rows_with_an_output_beyond_its_bounds_are_refused(
    settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    np.savez(tmp_path / "expected.npz", x=FEATURES[:4], y=FEATURES[:4])
    bounded = signature(output={"minimum": 1000})
    reason = refused(
        saved(tmp_path, plain(["n", 3])),
        settings,
        tracking,
        signature=bounded,
        expected=str(tmp_path / "expected.npz"),
    )
    assert "is below the minimum 1000: correct the signature" in reason


HERE = frozenset({"127.0.0.1"})


@pytest.fixture
def website() -> Iterator[str]:
    """Provide the URL of a server with one file and some redirects."""
    content = plain(["n", 3]).SerializeToString()

    moved = {
        "/elsewhere/x.onnx": "http://localhost:1/x.onnx",
        "/near/x.onnx": "/models/x.onnx",
        "/loop/x.onnx": "x.onnx",
    }

    def respond(_: str, path: str, __: dict[str, str], ___: bytes) -> Response:
        if path in moved:
            return 302, b"", {"location": moved[path]}
        return 200 if path == "/models/x.onnx" else 404, content

    with http_server(respond) as url:
        yield url


def test_a_url_with_a_pinned_digest_is_downloaded(website: str, tmp_path: Path) -> None:
    url = f"{website}/models/x.onnx"
    digest = hashlib.sha256(plain(["n", 3]).SerializeToString()).hexdigest()
    assert fetch(f"{url}#sha256={digest}", tmp_path, 10**6, HERE).name == "x.onnx"
    with pytest.raises(
        Refused, match=f"has the digest sha256:{digest}; sha256:{'0' * 64} is expected"
    ):
        fetch(f"{url}#sha256={'0' * 64}", tmp_path, 10**6, HERE)
    with pytest.raises(Refused, match="larger than 10 bytes"):
        fetch(f"{url}#sha256={digest}", tmp_path, 10, HERE)
    with pytest.raises(Refused, match="returned status 404"):
        fetch(f"{url}x#sha256={digest}", tmp_path, 10**6, HERE)
    with pytest.raises(WrongParameter, match=r"has no digest; write http://.*#sha256=HEX"):
        fetch(url, tmp_path, 10**6)


def test_a_url_and_its_redirects_must_be_public_or_allowed(website: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(plain(["n", 3]).SerializeToString()).hexdigest()
    here = website
    assert fetch(f"{here}/near/x.onnx#sha256={digest}", tmp_path, 10**6, HERE).name == "x.onnx"
    for url, hosts, reason in (
        (
            f"{here}/models/x.onnx",
            frozenset[str](),
            r"127.0.0.1 is not a public host; name it in SLIPWAY_IMPORT_HOSTS",
        ),
        (
            f"{here}/elsewhere/x.onnx",
            HERE,
            r"localhost:1/x.onnx cannot be fetched: localhost is not a public host",
        ),
        (f"{here}/loop/x.onnx", HERE, "redirects more than 5 times"),
        ("http://169.254.169.254/latest/x.onnx", HERE, "169.254.169.254 is not a public host"),
        ("http://127.0.0.1\\attacker.example/x.onnx", HERE, "is not a host"),
        ("http://ⓛocalhost/x.onnx", HERE, "localhost is not a public host"),
    ):
        with pytest.raises(Refused, match=reason):
            fetch(f"{url}#sha256={digest}", tmp_path, 10**6, hosts)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/no/such/model.onnx", "cannot be read: No such file"),
        ("file:///etc/passwd#sha256=00", "only http:// and https:// are supported"),
        ("ftp://host/x#sha256=00", "only http:// and https:// are supported"),
        ("https://host/#sha256=00", "is not a file name"),
    ],
)
def test_other_locations_are_wrong_parameters(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(WrongParameter, match=reason):
        fetch(text, tmp_path, 10**6)
