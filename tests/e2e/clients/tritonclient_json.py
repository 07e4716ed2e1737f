"""NVIDIA's V2 client with JSON tensors. Argument 1: URL, 2: token, 3: the row as JSON."""

import json
import sys
from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton

headers = {"Authorization": f"Bearer {sys.argv[2]}"}
client = triton.InferenceServerClient(urlsplit(sys.argv[1]).netloc)
assert client.is_server_live()
assert client.is_model_ready("heart", headers=headers)
inputs = []
for name, value in json.loads(sys.argv[3]).items():
    tensor = triton.InferInput(name, [1], "FP32")
    tensor.set_data_from_numpy(np.array([value], np.float32), binary_data=False)
    inputs.append(tensor)
wanted = [triton.InferRequestedOutput("label", binary_data=False)]
result = client.infer("heart", inputs, outputs=wanted, headers=headers)
sys.stdout.write(f"{result.get_response()['model_name']} label {result.as_numpy('label')[0]}\n")
