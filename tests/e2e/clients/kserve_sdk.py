"""Prediction with KServe's own SDK. Argument 1: URL, 2: token, 3: the row as JSON."""

import asyncio
import json
import sys

from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main() -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", verify=False))
    inputs = [
        InferInput(name=name, shape=[1], datatype="FP32", data=[value])
        for name, value in json.loads(sys.argv[3]).items()
    ]
    request = InferRequest(model_name="heart", infer_inputs=inputs)
    headers = {"Authorization": f"Bearer {sys.argv[2]}", "Content-Type": "application/json"}
    answer = await client.infer(sys.argv[1], request, headers=headers, model_name="heart")
    label = next(output for output in answer.outputs if output.name == "label")
    sys.stdout.write(f"{answer.model_name} label {label.data[0]}\n")


asyncio.run(main())
