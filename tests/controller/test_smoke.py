"""The smoke prediction: the response for a version's own example is compared with its signature."""

import json
from typing import Any

import httpx
import pytest
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_controller.inference_service import PASSED, Service
from slipway_controller.smoke import predict_example

DIGEST = "sha256:" + "0" * 64
SERVICE = Service("tree-1", "1", {}, ready=True, url="http://tree-1")
SIGNATURE = Signature(
    inputs=(Column(name="x", datatype=Datatype.FP32, shape=(3,)),),
    outputs=(
        Column(name="label", datatype=Datatype.INT64, codes={0: "no", 1: "yes"}),
        Column(name="probability", datatype=Datatype.FP32, minimum=0, maximum=1),
    ),
)
EXAMPLE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [0.0] * 6}]}
LABEL = {"name": "label", "datatype": "INT64", "shape": [2], "data": [0, 1]}
PROBABILITY = {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.25, 1.0000001]}


def metadata(**changes: Any) -> dict[str, Any]:
    inputs, outputs = (
        [column.metadata.model_dump(mode="json", exclude_none=True) for column in group]
        for group in (SIGNATURE.inputs, SIGNATURE.outputs)
    )
    parameters = {"digest": DIGEST, "example": EXAMPLE}
    return {
        "name": "tree-1",
        "platform": "p",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": parameters,
        **changes,
    }


def outcome(answer: Any, described: dict[str, Any] | None = None) -> str:
    """Return the outcome for a predictor with this metadata and this response for its example."""

    def predictor(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=described or metadata())
        assert json.loads(request.content) == EXAMPLE
        return httpx.Response(200, json=answer)

    with httpx.Client(transport=httpx.MockTransport(predictor)) as client:
        return predict_example(client, SERVICE, DIGEST)


def answered(*outputs: dict[str, Any]) -> dict[str, Any]:
    return {"model_name": "tree-1", "outputs": list(outputs)}


OTHER_RUNTIME = {"spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}}}


@pytest.mark.parametrize(
    ("ready", "parameters", "expected"),
    [
        (200, {}, PASSED),
        (200, {"digest": DIGEST}, PASSED),
        (400, {}, "the model is not loaded: its readiness answered 400"),
        (200, {"digest": "sha256:1"}, f"the predictor serves digest sha256:1, not {DIGEST}"),
    ],
)
def test_a_runtime_of_another_format_is_ready_and_may_prove_its_digest(
    ready: int, parameters: dict[str, Any], expected: str
) -> None:
    def predictor(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v2/models/tree-1/ready":
            return httpx.Response(ready)
        content = {"name": "tree-1", "platform": "", "parameters": parameters}
        return httpx.Response(200, json=content)

    service = Service("tree-1", "1", OTHER_RUNTIME, ready=True, url="http://tree-1")
    with httpx.Client(transport=httpx.MockTransport(predictor)) as client:
        assert predict_example(client, service, DIGEST) == expected


def test_a_response_that_matches_the_signature_passes() -> None:
    assert outcome(answered(LABEL, PROBABILITY)) == PASSED
    assert outcome(answered(LABEL | {"shape": [2, 1]}, PROBABILITY | {"data": [None, 0]})) == PASSED


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (
            [LABEL, PROBABILITY | {"data": [0.5, 84.0]}],
            "output 'probability' is 84, which is above the maximum 1",
        ),
        (
            [LABEL, PROBABILITY | {"data": [-0.5, 0.5]}],
            "output 'probability' is -0.5, which is below the minimum 0",
        ),
        (
            [LABEL | {"data": [0, 7]}, PROBABILITY],
            "output 'label' is 7, which is not one of the codes 0, 1",
        ),
        (
            [LABEL | {"shape": [4], "data": [0, 1, 0, 1]}, PROBABILITY],
            "output 'label' has the shape [4] for 2 rows; [2] is expected",
        ),
        (
            [LABEL | {"datatype": "INT32"}, PROBABILITY],
            "output 'label' is INT32; the signature has INT64",
        ),
        ([LABEL], "output 'probability' is missing from the answer"),
        ([LABEL, PROBABILITY, LABEL | {"name": "more"}], "output 'more' is not in the signature"),
        ([], "output 'label' is missing from the answer"),
    ],
    ids=["maximum", "minimum", "codes", "rows", "datatype", "missing", "extra", "none"],
)
def test_a_response_that_the_signature_does_not_allow_fails(
    outputs: list[dict[str, Any]], problem: str
) -> None:
    result = outcome(answered(*outputs))
    assert (
        result == f"its own example was answered with what its signature does not allow: {problem}"
    )


def test_a_response_that_is_not_v2_fails() -> None:
    assert "is not V2: outputs: Field required" in outcome({"model_name": "tree-1"})
    assert "its metadata is not V2: platform: Field required" in outcome({}, {"name": "tree-1"})


def test_an_artifact_without_an_example_passes() -> None:
    assert outcome(None, metadata(parameters={"digest": DIGEST})) == PASSED
    assert (
        outcome(None, metadata(parameters={"digest": "sha256:1"}))
        == f"the predictor serves digest sha256:1, not {DIGEST}"
    )
