"""The smoke prediction: the last check before a version takes traffic."""

from typing import Any

import httpx
from pydantic import ValidationError
from slipway_contract.errors import InvalidOutput
from slipway_contract.signature import Signature
from slipway_contract.v2 import InferenceResponse, ModelMetadata

from slipway_controller.inference_service import PASSED, Service


def predict_example(client: httpx.Client, service: Service, digest: str) -> str:
    """Compare the predictor's digest and its prediction for its own example with its metadata.

    Return PASSED, or one line that describes the failure. A runtime of another format is ready and
    returns metadata; a digest and an example in it are optional.
    """
    base = f"{service.url}/v2/models/{service.name}"
    try:
        if not service.verified and (response := client.get(f"{base}/ready")).is_error:
            return f"the model is not loaded: its readiness answered {response.status_code}"
        response = client.get(base)
        if response.is_error:
            return f"metadata answered {response.status_code}"
        metadata = ModelMetadata.model_validate_json(response.content)
        parameters: dict[str, Any] = metadata.parameters or {}
        if parameters.get("digest", None if service.verified else digest) != digest:
            return f"the predictor serves digest {parameters.get('digest')}, not {digest}"
        if not parameters.get("example"):
            return PASSED  # nothing more can be checked without an example
        signature = Signature.of_metadata(metadata)
        response = client.post(f"{base}/infer", json=parameters["example"])
    except ValidationError as error:
        return f"its metadata is not V2: {_first(error)}"
    except (httpx.TransportError, ValueError) as error:
        return f"the predictor does not answer: {error}"
    if response.is_error:
        return f"its own example was answered with {response.status_code}: {response.text[:200]}"
    return _compared(response.content, signature, parameters["example"])


def _compared(body: bytes, signature: Signature, example: Any) -> str:
    """Return PASSED when rows, datatypes, bounds and codes of the response match the signature."""
    try:
        signature.check_answer(
            InferenceResponse.model_validate_json(body).outputs, example["inputs"][0]["shape"][0]
        )
    except ValidationError as error:
        return f"its own example was answered with what is not V2: {_first(error)}"
    except InvalidOutput as error:
        return f"its own example was answered with what its signature does not allow: {error}"
    except (LookupError, TypeError):
        return "its own example is not a V2 request: inputs with a shape are missing"
    return PASSED


def _first(error: ValidationError) -> str:
    finding = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, finding['loc']))}: {finding['msg']}"[:200]
