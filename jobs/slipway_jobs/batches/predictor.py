"""The door to a version's predictor: predictions as the gateway asks for them, by V2."""

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
"""Seconds between attempts; then the Job ends, and its next pod goes on."""

REFUSALS = (400, 413, 422, 500)
"""Statuses that are about the rows: they do not fit, or the model fails on them. Another attempt
would end the same.
"""
DENIALS = (401, 403, 405, 406, 415)
"""Statuses that are about the caller."""


class RowsRefused(Exception):
    """The predictor does not take these rows."""


class Predictor:
    """One version. ``token`` is what it asks its callers for."""

    def __init__(self, url: str, service: str, digest: str, token: str | None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # No base_url of the client's: it would ask for "…/service/", which is another place.
        self._url = f"{url.rstrip('/')}/v2/models/{service}"
        self._client = httpx.Client(headers=headers, timeout=60, trust_env=False)
        said = self._metadata()
        if (said.parameters or {}).get("digest", digest) != digest:
            raise BatchRefused(
                f"{service} at {url} is not the artifact {digest} of the batch; send the file again"
            )
        try:
            self.signature = Signature.of_metadata(said)
        except ValidationError as error:
            raise BatchRefused(f"the version has no signature of named inputs: {error}") from error

    def close(self) -> None:
        self._client.close()

    def _metadata(self) -> ModelMetadata:
        try:
            return ModelMetadata.model_validate_json(self._answer("GET", "", None).content)
        except (ValidationError, RowsRefused) as error:
            raise BatchRefused(f"the predictor does not say what it takes: {error}") from error

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Outputs by name, a row each. Raises InvalidInput, RowsRefused, BatchRefused,
        BatchError.
        """
        request: InferenceRequest = self.signature.request(rows)
        answer = self._answer("POST", "/infer", request.model_dump_json(exclude_none=True).encode())
        try:
            found = self.signature.rows(
                InferenceResponse.model_validate_json(answer.content).outputs
            )
        except ValidationError as error:
            raise BatchRefused(f"the predictor's answer is not V2: {error}") from error
        if len(found) != len(rows):
            raise BatchRefused(f"the predictor gave {len(found)} rows for {len(rows)}")
        return found

    def _answer(self, method: str, path: str, body: bytes | None) -> httpx.Response:
        problem = ""
        for pause in (*PAUSES, None):
            try:
                answer = self._client.request(
                    method,
                    self._url + path,
                    content=body,
                    headers={"content-type": "application/json"},
                )
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            else:
                if answer.status_code in REFUSALS:
                    raise RowsRefused(_said(answer))
                if answer.status_code in DENIALS:
                    raise BatchRefused(
                        "the predictor does not take the Job's requests: "
                        f"{answer.status_code}: {_said(answer)}"
                    )
                if answer.status_code == 200:
                    return answer
                problem = f"{answer.status_code}: {_said(answer)}"
            if pause is not None:
                logger.warning("the predictor did not answer (%s); again in %.0f s", problem, pause)
                time.sleep(pause)
        raise BatchError(f"the predictor does not answer: {problem}")


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])[:500]
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]
