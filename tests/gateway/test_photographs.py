"""Photographs as input of an ImageNet-like ONNX model, which needs no code but its signature."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper
from PIL import Image
from slipway.packaging.inference import run_onnx
from slipway_contract.signature import Column, ImageSpec, Signature
from slipway_contract.v2 import Datatype, InferenceRequest

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import Predictor

SIZE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = ("red apple", "green apple", "blueberry")
SIGNATURE = Signature(
    inputs=(
        Column(
            name="image", datatype=Datatype.FP32, shape=(3, SIZE, SIZE),
            image=ImageSpec(width=SIZE, height=SIZE, layout="CHW", fit="cover", mean=MEAN,
            deviation=DEVIATION),
        ),
    ),
    outputs=(Column(name="logits", datatype=Datatype.FP32, shape=(3,), classes=CLASSES),),
)  # fmt: skip


def network() -> bytes:
    """Build a model: convolution, mean over the image, and scores by the dominant colour."""
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[:, :, 1, 1] = np.eye(3)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel"], ["seen"], pads=[1, 1, 1, 1]),
            helper.make_node("GlobalAveragePool", ["seen"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["colours"]),
            helper.make_node("MatMul", ["colours", "weights"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array((1.5 * np.eye(3) - 0.5).astype(np.float32), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def client(new_environment: Callable[[], Environment]) -> Iterator[Client]:
    model = network()

    def predict(service: str, asked: InferenceRequest) -> dict[str, Any]:
        (image,) = asked.inputs
        outputs = run_onnx(
            model, {"image": np.array(image.data, np.float32).reshape(-1, 3, SIZE, SIZE)}
        )
        given = outputs["logits"]
        logits = {
            "name": "logits",
            "shape": list(given.shape),
            "datatype": "FP32",
            "data": given.ravel().tolist(),
        }
        return {"model_name": service, "model_version": "1", "id": asked.id, "outputs": [logits]}

    with Predictor(SIGNATURE, predict) as predictor:
        environment = new_environment()
        environment.model("fruit", ("1", 100), url=predictor.url)
        with environment.gateway(image_seconds=60) as client:
            yield client


def photograph(colour: str, size: tuple[int, int], kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def send(client: Client, *files: bytes, top: int) -> httpx.Response:
    headers = {"authorization": f"Bearer {client.environment.issuer.token()}"}
    parts = [("image", (str(index), content)) for index, content in enumerate(files)]
    return client.http.post(
        "/v1/models/fruit/predictions", files=parts, params={"top": top}, headers=headers
    )


def test_photographs_of_any_size_and_format_are_classified_with_class_names(
    client: Client,
) -> None:
    files = [
        photograph("red", (640, 480), "JPEG"),
        photograph("lime", (31, 500), "PNG"),
        photograph("blue", (224, 224), "GIF"),
    ]
    answer = send(client, *files, top=2)
    assert answer.status_code == 200, answer.text
    tops = [row["top"] for row in answer.json()["predictions"]]
    assert [best["name"] for best, _ in tops] == list(CLASSES)
    for best, second in tops:
        assert best.keys() == {"label", "score", "name"}
        assert best["score"] > second["score"]


def test_pixels_are_normalized_by_mean_and_deviation(client: Client) -> None:
    """Expect (value / 255 - mean) / deviation of each channel, and the scores of ``network``."""
    (row,) = send(client, photograph("red", (300, 300), "PNG"), top=3).json()["predictions"]
    channels = (np.array([1, 0, 0]) - MEAN) / DEVIATION
    assert row["logits"] == pytest.approx(
        (1.5 * channels - 0.5 * channels.sum()).tolist(), abs=1e-3
    )


def test_the_openapi_document_has_the_parameter_top(client: Client) -> None:
    paths = client.get("/v1/openapi.json").json()["paths"]
    operation = paths["/v1/models/fruit/predictions"]["post"]
    assert "top" in {parameter.get("name") for parameter in operation["parameters"]}
    assert "multipart/form-data" in operation["requestBody"]["content"]
