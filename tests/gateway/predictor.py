"""A minimal V2 predictor of any number of services, which validates requests by the contract."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import orjson
from slipway_contract.errors import InvalidInput, MalformedRequest
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, InferenceRequest, parse_request

from tests.support.asgi_server import AsgiServer, ServerContext
from tests.support.testdata import testdata

SIGNATURE = Signature(
    inputs=(
        Column(name="age", datatype=Datatype.FP32, unit="a", minimum=0, maximum=130),
        Column(name="chol", datatype=Datatype.FP32, unit="mg/dL", minimum=0, missing=True),
        Column(
            name="thal",
            datatype=Datatype.FP32,
            codes={3: "normal", 6: "fixed defect", 7: "reversible defect"},
        ),
    ),
    outputs=(
        Column(name="label", datatype=Datatype.INT64),
        Column(name="probability", datatype=Datatype.FP32),
    ),
)
ROW: dict[str, float] = testdata("patient_three_inputs")
DIGEST = "sha256:" + "ab" * 32

Predict = Callable[[str, InferenceRequest], dict[str, Any]]


class Predictor(ServerContext):
    """A predictor with configurable failures."""

    def __init__(self, signature: Signature = SIGNATURE, predict: "Predict | None" = None) -> None:
        self._signature = signature
        self._predict = predict or _predict
        self.asked: list[str] = []
        self.credentials: set[bytes | None] = set()
        """All received Authorization headers."""
        self.headers: dict[bytes, bytes] = {}
        """Headers of the last inference request."""
        self.delay = 0.0
        self._held_from = math.inf
        self.raw: bytes | None = None
        """Response body to each request instead of a prediction."""
        self.status = 200
        self.cut_off = False
        self.parameters: dict[str, Any] = {
            "runId": "run-7",
            "dataset": {
                "name": "cleveland",
                "digest": "sha256:d",
                "licence": "CC BY 4.0",
                "source": "UCI",
            },
            "gitRevision": "0123abc",
            "image": "slipway/jobs:1",
        }
        self.server = AsgiServer(self._answer)

    @property
    def url(self) -> str:
        return self.server.url

    def hold(self, after: int = 0) -> None:
        """Answer the next ``after`` requests and let further ones wait until ``release``."""
        self._held_from = len(self.asked) + after

    def release(self) -> None:
        self._held_from = math.inf

    @property
    def held(self) -> bool:
        """True while a request since the last call of ``hold`` waits."""
        return len(self.asked) > self._held_from

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].endswith("/"):  # like MLServer
            await _send(send, 307, b"")
            return
        service = scope["path"].split("/")[3]
        self.credentials.add(dict(scope["headers"]).get(b"authorization"))
        if scope["method"] == "GET":
            await _send(send, 200, orjson.dumps(self._metadata(service)))
            return
        self.headers = dict(scope["headers"])
        body = await _read(receive)
        number = len(self.asked)
        self.asked.append(service)
        while number >= self._held_from:  # noqa: ASYNC110  (the thread of the test changes it)
            await asyncio.sleep(0.01)
        await asyncio.sleep(self.delay)
        if self.cut_off:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send(
                {
                    "type": "http.response.body",
                    "body": b'{"model_name":"' + b"x" * 2**18,
                    "more_body": True,
                }
            )
            raise ConnectionAbortedError("cut off on purpose")
        if self.raw is not None:
            await _send(send, self.status, self.raw)
            return
        try:
            asked = parse_request(body)
            self._signature.check(asked.inputs)
        except InvalidInput as error:
            await _send(send, 422, orjson.dumps({"error": str(error)}))
        except MalformedRequest as error:
            await _send(send, 400, orjson.dumps({"error": str(error)}))
        else:
            await _send(send, 200, orjson.dumps(self._predict(service, asked)))

    def _metadata(self, service: str) -> dict[str, Any]:
        groups = (("inputs", self._signature.inputs), ("outputs", self._signature.outputs))
        tensors = {
            key: [column.metadata.model_dump(mode="json") for column in columns]
            for key, columns in groups
        }
        return {
            "name": service,
            "versions": ["1"],
            "platform": "onnx",
            **tensors,
            "parameters": self.parameters,
        }


def _predict(service: str, asked: InferenceRequest) -> dict[str, Any]:
    ages = next(tensor.data for tensor in asked.inputs if tensor.name == "age")
    rows = len(ages)
    label = {
        "name": "label",
        "shape": [rows],
        "datatype": "INT64",
        "data": [int(age > 50) for age in ages],
    }
    probability = {
        "name": "probability",
        "shape": [rows, 1],
        "datatype": "FP32",
        "data": [age / 130 for age in ages],
    }
    names = [output.name for output in asked.outputs or ()] or ["label", "probability"]
    return {
        "model_name": service,
        "model_version": service.rpartition("-")[2],
        "id": asked.id,
        "outputs": [output for output in (label, probability) if output["name"] in names],
    }


async def _read(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message["body"]
        if not message.get("more_body"):
            return bytes(body)


async def _send(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
