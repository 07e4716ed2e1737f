"""NVIDIA's V2 client with JSON tensors. Argument 1: URL, 2: token."""

import sys
from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton

PATIENT = {
    "age": 67, "sex": 1, "cp": 4, "trestbps": 160, "chol": 286, "fbs": 0, "restecg": 2,
    "thalach": 108,
    "exang": 1, "oldpeak": 1.5, "slope": 2, "ca": 3, "thal": 3,
}  # fmt: skip

headers = {"Authorization": f"Bearer {sys.argv[2]}"}
client = triton.InferenceServerClient(urlsplit(sys.argv[1]).netloc)
assert client.is_server_live()
assert client.is_model_ready("heart", headers=headers)
inputs = []
for name, value in PATIENT.items():
    tensor = triton.InferInput(name, [1], "FP32")
    tensor.set_data_from_numpy(np.array([value], np.float32), binary_data=False)
    inputs.append(tensor)
wanted = [triton.InferRequestedOutput("label", binary_data=False)]
result = client.infer("heart", inputs, outputs=wanted, headers=headers)
sys.stdout.write(f"{result.get_response()['model_name']} label {result.as_numpy('label')[0]}\n")
