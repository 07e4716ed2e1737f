"""Behaviour of a V2 server over HTTP, one check a sentence.

Sources: the Open Inference Protocol's HTTP/REST form, its binary tensor data extension, and RFC
9110 for HTTP itself.
"""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from tests.conformance.served import Served, outputs, to_bytes

Check = Callable[[Served], None]
CHECKS: dict[str, Check] = {}
"""Checks by their sentences."""


def check(sentence: str) -> Callable[[Check], Check]:
    def keep(function: Check) -> Check:
        assert sentence not in CHECKS
        CHECKS[sentence] = function
        return function

    return keep


def refused(answer: httpx.Response, *statuses: int) -> None:
    """Assert an error of the protocol: one of the statuses, and only ``error`` in the body."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:300]}"
    content = orjson.loads(answer.content)
    assert list(content) == ["error"]
    assert isinstance(content["error"], str)
    assert "Traceback" not in content["error"]


def same(answer: httpx.Response, served: Served) -> None:
    """Assert that the response is that of the example as JSON."""
    assert outputs(answer) == outputs(served.infer(served.request()))


@check("server metadata: name, version, extensions")
def _(served: Served) -> None:
    metadata = served.get("/v2").json()
    assert isinstance(metadata["name"], str)
    assert isinstance(metadata["version"], str)
    assert all(isinstance(each, str) for each in metadata["extensions"])


@check("the server is live and ready")
def _(served: Served) -> None:
    assert [served.get(f"/v2/health/{what}").status_code for what in ("live", "ready")] == [
        200,
        200,
    ]


@check("the model is ready, with and without its version")
def _(served: Served) -> None:
    paths = (f"{served.path}/ready", f"{served.path}/versions/{served.version}/ready")
    assert [served.get(path).status_code for path in paths] == [200, 200]


@check("model metadata: name, platform, tensors with datatype and shape")
def _(served: Served) -> None:
    for path in (served.path, f"{served.path}/versions/{served.version}"):
        metadata = served.get(path).json()
        assert (metadata["name"], served.version in metadata["versions"]) == (served.model, True)
        assert isinstance(metadata["platform"], str)
        tensors = {
            tensor["name"]: (tensor["datatype"], len(tensor["shape"]))
            for tensor in metadata["inputs"]
        }
        assert tensors == {
            tensor["name"]: (tensor["datatype"], len(tensor["shape"]))
            for tensor in served.example["inputs"]
        }
        assert {tensor["name"] for tensor in metadata["outputs"]} == set(
            outputs(served.infer(served.request()))
        )


@check("infer: the response has model and outputs, whose values match their shapes")
def _(served: Served) -> None:
    answer = served.infer(served.request())
    assert answer.headers["content-type"].partition(";")[0] == "application/json"
    assert answer.json()["model_name"] == served.model
    for tensor in outputs(answer).values():
        count = 1
        for size in tensor["shape"]:
            count *= size
        assert len(tensor["data"]) == count


@check("infer with a version uses that version")
def _(served: Served) -> None:
    answer = served.infer(served.request(), version=served.version)
    assert answer.json()["model_version"] == served.version
    same(answer, served)


@check("the response has the id of the request")
def _(served: Served) -> None:
    assert served.infer(served.request(id="mine")).json()["id"] == "mine"


@check("unknown parameters are accepted")
def _(served: Served) -> None:
    request = served.request(parameters={"unheard_of": 1})
    for tensor in request["inputs"]:
        tensor["parameters"] = {"unheard_of": True}
    same(served.infer(request), served)


@check("only requested outputs are returned")
def _(served: Served) -> None:
    name = list(outputs(served.infer(served.request())))[-1]
    assert list(outputs(served.infer(served.request(outputs=[{"name": name}])))) == [name]


@check("data may be nested like the shape")
def _(served: Served) -> None:
    request = served.request()
    for tensor in request["inputs"]:
        for size in reversed(tensor["shape"][1:]):
            tensor["data"] = [
                tensor["data"][at : at + size] for at in range(0, len(tensor["data"]), size)
            ]
    same(served.infer(request), served)


@check("every datatype survives a round trip")
def _(served: Served) -> None:
    need(served)
    given = outputs(served.infer(served.request()))
    for tensor in served.example["inputs"]:
        back = given[served.echoes[tensor["name"]]]
        assert (back["datatype"], back["shape"]) == (tensor["datatype"], tensor["shape"])
        assert back["data"] == tensor["data"], tensor["datatype"]


@check("an unknown model or version is 404")
def _(served: Served) -> None:
    for path in (
        "/v2/models/unknown",
        "/v2/models/unknown/ready",
        f"{served.path}/versions/999",
        f"{served.path}/versions/999/ready",
    ):
        refused(served.get(path), 404)
    refused(served.infer(served.request(), version="999"), 404)


@check("an unknown path is 404")
def _(served: Served) -> None:
    refused(served.get("/v2/nothing"), 404)


@check("an unsupported method is 405, with Allow")
def _(served: Served) -> None:
    for method, path, allowed in (
        ("GET", f"{served.path}/infer", "POST"),
        ("POST", served.path, "GET"),
        ("DELETE", "/v2", "GET"),
    ):
        answer = served.client.request(method, path)
        refused(answer, 405)
        assert allowed in answer.headers["allow"]


@check("a body that is not JSON is 400")
def _(served: Served) -> None:
    for body in (b"", b"no json", b'{"inputs": [', b"\xff\xfe"):
        refused(served.post(body), 400)


@check("a body of another structure is 400")
def _(served: Served) -> None:
    for body in (b"{}", b"[]", b'{"inputs": 1}', b'{"inputs": [{"name": "x"}]}'):
        refused(served.post(body), 400)


@check("an unknown datatype is 400")
def _(served: Served) -> None:
    request = served.request()
    request["inputs"][0]["datatype"] = "FP8"
    refused(served.infer(request), 400)


@check("data that does not fit its shape is 400 or 422")
def _(served: Served) -> None:
    request = served.request()
    request["inputs"][0]["data"] = request["inputs"][0]["data"] * 2
    refused(served.infer(request), 400, 422)


@check("values that do not fit their datatype are 400 or 422")
def _(served: Served) -> None:
    request = served.request()
    for tensor in request["inputs"]:
        tensor["data"] = [{"no": "value"}] * len(tensor["data"])
    refused(served.infer(request), 400, 422)


@check("an input that is missing or unknown is 400 or 422")
def _(served: Served) -> None:
    inputs = served.request()["inputs"]
    refused(served.infer({"inputs": inputs[1:]}), 400, 422)
    refused(served.infer({"inputs": [*inputs, {**inputs[0], "name": "unknown"}]}), 400, 422)


@check("an unknown output is 400 or 422")
def _(served: Served) -> None:
    refused(served.infer(served.request(outputs=[{"name": "unknown"}])), 400, 422)


@check("an unsupported content type is 415")
def _(served: Served) -> None:
    refused(served.infer(served.request(), content_type="text/csv"), 415)


@check("an unsupported content encoding is 415")
def _(served: Served) -> None:
    refused(served.infer(served.request(), content_encoding="compress"), 415)


def _packed_request(served: Served, coding: str, pack: Callable[[bytes], bytes]) -> None:
    same(served.post(pack(orjson.dumps(served.request())), **{"content-encoding": coding}), served)


@check("a request may be compressed by gzip")
def _(served: Served) -> None:
    _packed_request(served, "gzip", gzip.compress)


@check("a request may be compressed by deflate")
def _(served: Served) -> None:
    _packed_request(served, "deflate", zlib.compress)


def _packed_answer(served: Served, coding: str) -> None:
    request = served.request()
    for tensor in request["inputs"]:
        tensor["shape"][0] *= 500
        tensor["data"] *= 500
    answer = served.infer(request, accept_encoding=coding)
    assert outputs(answer) == outputs(served.infer(request))
    assert answer.headers.get("content-encoding") == coding


@check("a long response is compressed by gzip if accepted")
def _(served: Served) -> None:
    _packed_answer(served, "gzip")


@check("a long response is compressed by deflate if accepted")
def _(served: Served) -> None:
    _packed_answer(served, "deflate")


@check("invalid gzip is 400")
def _(served: Served) -> None:
    refused(served.infer(served.request(), content_encoding="gzip"), 400)


@check("64 MiB from 64 KiB of gzip is 413")
def _(served: Served) -> None:
    refused(served.post(gzip.compress(b" " * 2**26), **{"content-encoding": "gzip"}), 413)


@check("the binary tensor extension is announced")
def _(served: Served) -> None:
    assert "binary_tensor_data" in served.get("/v2").json()["extensions"]


@check("binary inputs of every datatype are accepted")
def _(served: Served) -> None:
    request, raw = served.binary()
    same(served.infer(request, *raw), served)


@check("binary and JSON inputs may be mixed")
def _(served: Served) -> None:
    request, raw = served.binary()
    request["inputs"][0] = served.request()["inputs"][0]
    same(served.infer(request, *raw[1:]), served)


@check("all outputs are binary on request")
def _(served: Served) -> None:
    answer = served.infer(served.request(parameters={"binary_data_output": True}))
    plain = outputs(served.infer(served.request()))
    assert answer.headers["inference-header-content-length"].isdigit()
    for name, tensor in outputs(answer).items():
        assert tensor["data"] == to_bytes(tensor["datatype"], plain[name]["data"])


@check("single outputs are binary on request")
def _(served: Served) -> None:
    plain = outputs(served.infer(served.request()))
    wanted: list[dict[str, Any]] = [
        {"name": name, "parameters": {"binary_data": not at}} for at, name in enumerate(plain)
    ]
    given = outputs(served.infer(served.request(outputs=wanted)))
    for at, (name, tensor) in enumerate(given.items()):
        data = plain[name]["data"]
        assert tensor["data"] == (data if at else to_bytes(tensor["datatype"], data))


@check("binary inputs may be compressed")
def _(served: Served) -> None:
    request, raw = served.binary()
    head = orjson.dumps(request)
    headers = {"content-encoding": "gzip", "inference-header-content-length": str(len(head))}
    same(served.post(gzip.compress(head + b"".join(raw)), **headers), served)


@check("binary data that does not match the JSON is 400 or 422")
def _(served: Served) -> None:
    request, raw = served.binary()
    refused(served.infer(request, *raw, b"more"), 400, 422)
    refused(served.infer(request, *raw[:-1], raw[-1][:-1]), 400, 422)


def need(served: Served) -> None:
    if not served.echoes:
        pytest.skip("the model does not return its inputs")
