"""NVIDIA's unmodified V2 client with binary tensors, also compressed.

Argument 1: URL, 2: token, 3: the row as JSON.
"""

import json
import sys
from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton

headers = {"Authorization": f"Bearer {sys.argv[2]}"}
client = triton.InferenceServerClient(urlsplit(sys.argv[1]).netloc)
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("heart", headers=headers)
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
described = client.get_model_metadata("heart", headers=headers)
inputs = []
for name, value in json.loads(sys.argv[3]).items():
    assert {"FP32"} == {each["datatype"] for each in described["inputs"] if each["name"] == name}
    tensor = triton.InferInput(name, [1], "FP32")
    tensor.set_data_from_numpy(np.array([value], np.float32))
    inputs.append(tensor)


def label(**more):
    result = client.infer("heart", inputs, headers=dict(headers), **more)
    return result.get_response(), result.as_numpy("label")


response, plain = label(request_id="mine")
assert response["id"] == "mine", response
assert all("data" not in output for output in response["outputs"]), response
for coding in ("gzip", "deflate"):
    _, packed = label(request_compression_algorithm=coding, response_compression_algorithm=coding)
    assert packed == plain
response, chosen = label(
    outputs=[triton.InferRequestedOutput("label")], model_version=described["versions"][-1]
)
assert [output["name"] for output in response["outputs"]] == ["label"]
assert chosen == plain
try:
    client.infer("unknown", inputs, headers=headers)
except triton.InferenceServerException as error:
    refused = error
assert (refused.status(), refused.message()) == ("404", "there is no model unknown")
sys.stdout.write(f"{response['model_name']} label {plain[0]}\n")
