"""The smoke prediction: the last test before traffic."""

from typing import Any

import httpx

from slipway_controller.inference_service import PASSED, Service


def predict_example(client: httpx.Client, service: Service, digest: str) -> str:
    """Ask the predictor who it is, and let it answer the example of its own artifact.

    Returns PASSED, or one line that says what was wrong.
    """
    base = f"{service.url}/v2/models/{service.name}"
    try:
        metadata = client.get(base)
        if metadata.is_error:
            return f"metadata answered {metadata.status_code}"
        told: dict[str, Any] = metadata.json().get("parameters") or {}
        if told.get("digest") != digest:
            return f"the predictor serves digest {told.get('digest')}, not {digest}"
        if not told.get("example"):
            return PASSED  # artifacts without an example were checked as far as they can be
        answer = client.post(f"{base}/infer", json=told["example"])
    except (httpx.TransportError, ValueError) as error:
        return f"the predictor does not answer: {error}"
    if answer.is_error:
        return f"its own example was answered with {answer.status_code}: {answer.text[:200]}"
    return PASSED if answer.json().get("outputs") else "its own example gave no outputs"
