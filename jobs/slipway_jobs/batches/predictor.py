"""Client of a version's predictor: V2 predictions, as the gateway requests them."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from pydantic import ValidationError
from slipway_contract.signature import Signature
from slipway_contract.v2 import InferenceRequest, InferenceResponse, ModelMetadata

from slipway_jobs.errors import BatchError, BatchRefused

logger = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between attempts; after the last, the Job fails and its next pod continues."""

REFUSALS = (400, 413, 422, 500)
"""Statuses that concern the rows: they are invalid, or the model fails on them.

They are not retried.
"""
DENIALS = (401, 403, 405, 406, 415)
"""Statuses that concern the caller."""


class RowsRefused(Exception):
    """The predictor rejected the rows."""


class Predictor:
    """The predictor of one version. ``token`` is its bearer token."""

    def __init__(self, url: str, service: str, digest: str, token: str | None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # Not the client's base_url, which would request "…/service/", another path.
        self._url = f"{url.rstrip('/')}/v2/models/{service}"
        self._client = httpx.Client(headers=headers, timeout=60, trust_env=False)
        metadata = self._metadata()
        if (metadata.parameters or {}).get("digest", digest) != digest:
            raise BatchRefused(
                f"{service} at {url} is not the artifact {digest} of the batch; send the file again"
            )
        try:
            self.signature = Signature.of_metadata(metadata)
        except ValidationError as error:
            raise BatchRefused(f"the version has no signature of named inputs: {error}") from error

    def close(self) -> None:
        self._client.close()

    def _metadata(self) -> ModelMetadata:
        try:
            return ModelMetadata.model_validate_json(self._send("GET", "", None).content)
        except (ValidationError, RowsRefused) as error:
            raise BatchRefused(f"the predictor has no valid model metadata: {error}") from error

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the outputs of each row by name.

        Raises InvalidInput, RowsRefused, BatchRefused, BatchError.
        """
        request: InferenceRequest = self.signature.request(rows)
        response = self._send("POST", "/infer", request.model_dump_json(exclude_none=True).encode())
        try:
            found = self.signature.rows(
                InferenceResponse.model_validate_json(response.content).outputs
            )
        except ValidationError as error:
            raise BatchRefused(f"the predictor's response is not V2: {error}") from error
        if len(found) != len(rows):
            raise BatchRefused(f"the predictor returned {len(found)} rows for {len(rows)}")
        return found

    def _send(self, method: str, path: str, body: bytes | None) -> httpx.Response:
        problem = ""
        for pause in (*PAUSES, None):
            try:
                response = self._client.request(
                    method,
                    self._url + path,
                    content=body,
                    headers={"content-type": "application/json"},
                )
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            else:
                if response.status_code in REFUSALS:
                    raise RowsRefused(_error_text(response))
                if response.status_code in DENIALS:
                    raise BatchRefused(
                        "the predictor rejects the Job's requests: "
                        f"{response.status_code}: {_error_text(response)}"
                    )
                if response.status_code == 200:
                    return response
                problem = f"{response.status_code}: {_error_text(response)}"
            if pause is not None:
                logger.warning(
                    "the predictor did not respond (%s); retrying in %.0f s", problem, pause
                )
                time.sleep(pause)
        raise BatchError(f"the predictor does not respond: {problem}")


def _error_text(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])[:500]
    except (ValueError, KeyError, TypeError):
        return response.text[:500]
