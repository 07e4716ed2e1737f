"""The operations of the gateway's HTTP API, as data: the OpenAPI document's, each once.

``Client.call`` and ``AsyncClient.call`` send them. The names are the ``operationId``s.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from slipway.responses import (
    AcceptedTask,
    Accuracy,
    AuditList,
    Batch,
    BatchList,
    FeatureSetList,
    FeedbackAnswer,
    FeedbackList,
    GrantContent,
    GrantList,
    GroupList,
    KeyValues,
    Me,
    ModelAnswer,
    ModelEventList,
    ModelList,
    ModelResource,
    ModelVersion,
    ModelVersionList,
    NewWebhook,
    PolicyContent,
    PolicyList,
    PredictionAnswer,
    PredictionList,
    Promotion,
    PromotionList,
    Receipt,
    RollbackAnswer,
    TaskAnswer,
    TaskList,
    Training,
    TrainingList,
    UsageAnswer,
    UserContent,
    UserList,
    WebhookList,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Operation(Generic[T]):
    """An operation: method, path, the type of its response, and its parameters."""

    method: str
    path: str
    returns: type[T]
    """A response, ``dict`` for plain JSON, ``str``, ``bytes``, or ``NoneType``."""
    accepted: type[T] | None = None
    """The type of a response with status 202, where it is another."""
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: bool = False
    safe: bool = False
    """Whether a POST can be sent twice: a prediction has no effect but its log."""
    names: tuple[str, ...] = field(init=False)
    """The parameters of the path."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(re.findall(r"{(\w+)}", self.path)))

    def url(self, parameters: Mapping[str, Any]) -> str:
        """Return the path with its parameters."""
        return self.path.format_map(
            {name: quote(str(parameters[name]), safe="") for name in self.names}
        )

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters by their names in Python: ``If-Match`` is ``if_match``."""
        return {
            name.lower().replace("-", "_"): name
            for name in (*self.names, *self.query, *self.headers)
        }


# predictions
predict: Operation[PredictionAnswer | AcceptedTask] = Operation(
    "POST",
    "/v1/models/{model}/predictions",
    PredictionAnswer,
    accepted=AcceptedTask,
    query=("top",),
    headers=("Prefer", "Idempotency-Key", "Slipway-Priority"),
    body=True,
    safe=True,
)
list_predictions = Operation(
    "GET",
    "/v1/predictions",
    PredictionList,
    query=(
        "model",
        "version",
        "caller",
        "since",
        "until",
        "status",
        "label",
        "cursor",
        "limit",
    ),
)
get_receipt = Operation("GET", "/v1/predictions/{request_id}", Receipt)
create_feedback = Operation(
    "POST", "/v1/predictions/{request_id}/feedback", FeedbackAnswer, body=True
)
list_feedback = Operation("GET", "/v1/predictions/{request_id}/feedback", FeedbackList)
get_image = Operation("GET", "/v1/predictions/{request_id}/images/{number}", bytes)

# account
get_me = Operation("GET", "/v1/me", Me)
delete_me = Operation("DELETE", "/v1/me", NoneType)

get_protected_resource: Operation[dict[str, Any]] = Operation(
    "GET", "/.well-known/oauth-protected-resource", dict
)

# models
list_models = Operation("GET", "/v1/models", ModelList, headers=("If-None-Match",))
create_model = Operation("POST", "/v1/models", ModelResource, body=True)
get_model = Operation("GET", "/v1/models/{model}", ModelAnswer, headers=("If-None-Match",))
list_versions = Operation(
    "GET",
    "/v1/models/{model}/versions",
    ModelVersionList,
    query=("limit", "cursor"),
    headers=("If-None-Match",),
)
get_version = Operation(
    "GET", "/v1/models/{model}/versions/{version}", ModelVersion, headers=("If-None-Match",)
)
list_model_events = Operation("GET", "/v1/models/{model}/events", ModelEventList, query=("limit",))
replace_model = Operation(
    "PUT", "/v1/models/{model}", ModelResource, headers=("If-Match", "If-None-Match"), body=True
)
update_model = Operation(
    "PATCH", "/v1/models/{model}", ModelResource, headers=("If-Match",), body=True
)
delete_model = Operation("DELETE", "/v1/models/{model}", NoneType, headers=("If-Match",))
get_model_card = Operation("GET", "/v1/models/{model}/card", str, query=("version",))
get_model_declaration = Operation("GET", "/v1/models/{model}/declaration", ModelResource)

# labels
get_accuracy = Operation("GET", "/v1/models/{model}/accuracy", Accuracy, query=("since", "until"))
export_feedback = Operation(
    "GET", "/v1/models/{model}/feedback.parquet", bytes, query=("since", "until")
)

# users
list_users = Operation("GET", "/v1/users", UserList)
get_user = Operation("GET", "/v1/users/{user}", UserContent)
update_user = Operation("PATCH", "/v1/users/{user}", UserContent, body=True)
delete_user = Operation("DELETE", "/v1/users/{user}", NoneType)

# groups
list_groups = Operation("GET", "/v1/groups", GroupList)
add_member = Operation("PUT", "/v1/groups/{group}/members/{user}", NoneType)
remove_member = Operation("DELETE", "/v1/groups/{group}/members/{user}", NoneType)

# policies
list_policies = Operation("GET", "/v1/policies", PolicyList)
create_policy = Operation("POST", "/v1/policies", PolicyContent, body=True)
get_policy = Operation("GET", "/v1/policies/{policy}", PolicyContent)
replace_policy = Operation("PUT", "/v1/policies/{policy}", PolicyContent, body=True)
delete_policy = Operation("DELETE", "/v1/policies/{policy}", NoneType)

# grants
list_grants = Operation("GET", "/v1/grants", GrantList, query=("grantee",))
create_grant = Operation("POST", "/v1/grants", GrantContent, body=True)
get_grant = Operation("GET", "/v1/grants/{grant_id}", GrantContent)
replace_grant = Operation("PUT", "/v1/grants/{grant_id}", GrantContent, body=True)
delete_grant = Operation("DELETE", "/v1/grants/{grant_id}", NoneType)

# audit
list_audit_entries = Operation("GET", "/v1/audit", AuditList, query=("before", "limit"))

# usage
get_usage = Operation("GET", "/v1/usage", UsageAnswer, query=("subject", "first", "last"))

# promotions
create_rollback = Operation("POST", "/v1/models/{model}/rollback", RollbackAnswer, body=True)

# trainings
create_training = Operation(
    "POST", "/v1/models/{model}/trainings", Training, headers=("Idempotency-Key",), body=True
)
list_trainings = Operation("GET", "/v1/models/{model}/trainings", TrainingList)
get_training = Operation("GET", "/v1/models/{model}/trainings/{job}", Training)
cancel_training = Operation("DELETE", "/v1/models/{model}/trainings/{job}", NoneType)
get_training_logs = Operation(
    "GET", "/v1/models/{model}/trainings/{job}/logs", bytes, query=("follow",)
)

# promotions
create_promotion = Operation(
    "POST", "/v1/models/{model}/promotions", Promotion, headers=("Idempotency-Key",), body=True
)
list_promotions = Operation("GET", "/v1/models/{model}/promotions", PromotionList)
get_promotion = Operation("GET", "/v1/models/{model}/promotions/{job}", Promotion)

# batches
create_batch = Operation(
    "POST", "/v1/models/{model}/batches", Batch, headers=("Idempotency-Key",), body=True
)
list_batches = Operation("GET", "/v1/batches", BatchList, query=("limit",))
get_batch = Operation("GET", "/v1/batches/{batch_id}", Batch)
delete_batch = Operation("DELETE", "/v1/batches/{batch_id}", NoneType)
get_batch_result = Operation("GET", "/v1/batches/{batch_id}/result", bytes, query=("format",))

# features
list_features = Operation("GET", "/v1/features", FeatureSetList, query=("limit", "cursor"))
list_feature_keys = Operation(
    "GET", "/v1/features/{name}/keys", KeyValues, query=("key", "prefix", "limit", "cursor")
)

# tasks
list_tasks = Operation("GET", "/v1/tasks", TaskList, query=("state", "all", "limit"))
get_task = Operation("GET", "/v1/tasks/{task_id}", TaskAnswer)
cancel_task = Operation("DELETE", "/v1/tasks/{task_id}", TaskAnswer)
get_task_result = Operation("GET", "/v1/tasks/{task_id}/result", bytes)
replay_task = Operation("POST", "/v1/tasks/{task_id}/replay", TaskAnswer)

# webhooks
list_webhooks = Operation("GET", "/v1/webhooks", WebhookList)
create_webhook = Operation("POST", "/v1/webhooks", NewWebhook, body=True)
delete_webhook = Operation("DELETE", "/v1/webhooks/{webhook_id}", NoneType)

# health
live: Operation[dict[str, Any]] = Operation("GET", "/livez", dict)
ready: Operation[dict[str, Any]] = Operation("GET", "/readyz", dict)

# v2
v2_infer: Operation[dict[str, Any]] = Operation(
    "POST",
    "/v2/models/{model}/infer",
    dict,
    headers=("Prefer", "Idempotency-Key", "Slipway-Priority"),
    body=True,
    safe=True,
)
v2_metadata: Operation[dict[str, Any]] = Operation("GET", "/v2/models/{model}", dict)
v2_model_ready: Operation[dict[str, Any]] = Operation("GET", "/v2/models/{model}/ready", dict)
v2_infer_version: Operation[dict[str, Any]] = Operation(
    "POST",
    "/v2/models/{model}/versions/{version}/infer",
    dict,
    headers=("Prefer", "Idempotency-Key", "Slipway-Priority"),
    body=True,
    safe=True,
)
v2_metadata_version: Operation[dict[str, Any]] = Operation(
    "GET", "/v2/models/{model}/versions/{version}", dict
)
v2_model_ready_version: Operation[dict[str, Any]] = Operation(
    "GET", "/v2/models/{model}/versions/{version}/ready", dict
)
v2_server: Operation[dict[str, Any]] = Operation("GET", "/v2", dict)
v2_live: Operation[dict[str, Any]] = Operation("GET", "/v2/health/live", dict)
v2_ready: Operation[dict[str, Any]] = Operation("GET", "/v2/health/ready", dict)

OPERATIONS: dict[str, Operation[Any]] = {
    name: each for name, each in dict(vars()).items() if isinstance(each, Operation)
}
"""All operations by their names."""
