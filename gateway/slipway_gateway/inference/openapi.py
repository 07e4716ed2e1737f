"""The V2 routes and asynchronous predictions in the OpenAPI document.

V2 is plain ASGI, so FastAPI does not describe it. Its schemas are those of the contract.
"""

from typing import Any

from pydantic.json_schema import models_json_schema
from slipway_contract.v2 import InferenceRequest, InferenceResponse, ModelMetadata, ServerMetadata

from slipway_gateway.inference.schemas import AcceptedTask

Json = dict[str, Any]

ASYNC: Json = {
    "parameters": [
        {"$ref": f"#/components/parameters/{name}"}
        for name in ("Prefer", "Idempotency-Key", "Slipway-Priority")
    ],
    "responses": {"202": {"$ref": "#/components/responses/ACCEPTED"}},
}
"""Request headers and the response of an operation that can be asynchronous."""

_MODELS = (InferenceRequest, InferenceResponse, ModelMetadata, ServerMetadata, AcceptedTask)
_ERROR = {"default": {"$ref": "#/components/responses/V2_ERROR"}}


def document(security: list[Json]) -> Json:
    """Return paths and components, for a merge with the document of FastAPI.

    ``security`` is the security requirement of the routes that need a token.
    """
    _, schemas = models_json_schema(
        [(model, "validation") for model in _MODELS],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "paths": {
            **_of_model("/v2/models/{model}", "", "the live version", security),
            **_of_model(
                "/v2/models/{model}/versions/{version}", "_version", "one version", security
            ),
            "/v2": {
                "get": _operation(
                    "v2_server",
                    "Return name, version and extensions of the server",
                    {"$ref": "#/components/schemas/ServerMetadata"},
                )
            },
            "/v2/health/live": {
                "get": _operation("v2_live", "Return 200 while the process runs", _flag("live"))
            },
            "/v2/health/ready": {
                "get": _operation(
                    "v2_ready", "Return 200 when the gateway can serve", _flag("ready")
                )
            },
        },
        "components": {
            "schemas": {
                **schemas["$defs"],
                "V2Error": {
                    "type": "object",
                    "description": "An error response of the Open Inference Protocol.",
                    "properties": {"error": {"type": "string"}},
                    "required": ["error"],
                },
            },
            "parameters": {
                "Prefer": _header(
                    "Prefer",
                    "`respond-async` stores the prediction as a task (RFC 7240); other preferences "
                    "have no effect",
                ),
                "Idempotency-Key": _header(
                    "Idempotency-Key",
                    "with `Prefer: respond-async`: 1 to 255 printable ASCII characters; a "
                    "repetition with the same key and content returns the same task",
                ),
                "Slipway-Priority": _header(
                    "Slipway-Priority",
                    "with `Prefer: respond-async`: the priority of the task, at most that of your "
                    "policy",
                ),
            },
            "responses": {
                "V2_ERROR": _response("Error", {"$ref": "#/components/schemas/V2Error"}),
                "ACCEPTED": _response(
                    "Accepted: the prediction is a task",
                    {"$ref": "#/components/schemas/AcceptedTask"},
                ),
            },
        },
    }


def _of_model(path: str, suffix: str, which: str, security: list[Json]) -> Json:
    """Return the three paths of a model or of a version."""
    names = ["model", "version"] if "{version}" in path else ["model"]
    shared = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    infer = _operation(
        f"v2_infer{suffix}",
        f"Predict with {which}",
        {"$ref": "#/components/schemas/InferenceResponse"},
        security,
    )
    infer["description"] = (
        "With `Inference-Header-Content-Length`, body and response may contain tensors as binary "
        "data."
    )
    infer["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}},
        },
    }
    infer["parameters"] = ASYNC["parameters"]
    infer["responses"].update(ASYNC["responses"])
    metadata = _operation(
        f"v2_metadata{suffix}",
        f"Return the metadata of {which}: inputs and outputs with datatypes and shapes",
        {"$ref": "#/components/schemas/ModelMetadata"},
        security,
    )
    flag = _flag("ready", {"name": {"type": "string"}})
    ready = _operation(
        f"v2_model_ready{suffix}", f"Return 200 when {which} can predict", flag, security
    )
    return {
        f"{path}/infer": {"parameters": shared, "post": infer},
        path: {"parameters": shared, "get": metadata},
        f"{path}/ready": {"parameters": shared, "get": ready},
    }


def _operation(
    operation_id: str, summary: str, schema: Json, security: list[Json] | None = None
) -> Json:
    operation: Json = {
        "tags": ["v2"],
        "summary": summary,
        "operationId": operation_id,
        "responses": {"200": _response("Successful Response", schema), **_ERROR},
    }
    return {**operation, "security": security} if security else operation


def _response(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _flag(name: str, others: Json | None = None) -> Json:
    properties: Json = {**(others or {}), name: {"type": "boolean"}}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _header(name: str, description: str) -> Json:
    schema = {"type": "string"}
    return {"name": name, "in": "header", "description": description, "schema": schema}
