"""Prediction with KServe's own SDK. Argument 1: URL, 2: token."""

import asyncio
import sys

from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

PATIENT = {
    "age": 67, "sex": 1, "cp": 4, "trestbps": 160, "chol": 286, "fbs": 0, "restecg": 2,
    "thalach": 108,
    "exang": 1, "oldpeak": 1.5, "slope": 2, "ca": 3, "thal": 3,
}  # fmt: skip


async def main() -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", verify=False))
    inputs = [
        InferInput(name=name, shape=[1], datatype="FP32", data=[value])
        for name, value in PATIENT.items()
    ]
    request = InferRequest(model_name="heart", infer_inputs=inputs)
    headers = {"Authorization": f"Bearer {sys.argv[2]}", "Content-Type": "application/json"}
    answer = await client.infer(sys.argv[1], request, headers=headers, model_name="heart")
    label = next(output for output in answer.outputs if output.name == "label")
    sys.stdout.write(f"{answer.model_name} label {label.data[0]}\n")


asyncio.run(main())
