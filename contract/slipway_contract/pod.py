"""Parts of a pod that the author of a Model chooses.

The fields are all that can be chosen. Volumes, security contexts, host namespaces and references to
Secrets are not among them, and names that the platform uses are reserved: who may write a Model
gets no privilege by it that pods of the platform do not have.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from slipway_contract.quantity import Quantity, amount
from slipway_contract.resource import Resource

_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
LabelKey = Annotated[str, StringConstraints(pattern=rf"^({_DOMAIN}/)?{_NAME}$")]
LabelValue = Annotated[str, StringConstraints(pattern=rf"^({_NAME})?$")]
ObjectName = Annotated[str, StringConstraints(pattern=rf"^{_DOMAIN}$")]
"""Name of a Kubernetes object."""

RESERVED_DOMAINS = ("kubernetes.io", "k8s.io", "kserve.io", "knative.dev", "cncf.io", "slipway.dev")
"""Domains of labels and annotations, with their subdomains, by which a cluster selects, connects or
secures pods.
"""
RESERVED_LABELS = frozenset({"app", "component", "modelClass", "pod-template-hash"})
"""Labels that KServe and Deployments write."""
RESERVED_VARIABLES = ("SLIPWAY_", "MLFLOW_", "KUBERNETES_")
"""Beginnings of variables that the platform sets."""
LOADER_VARIABLES = (
    "MLSERVER_", "INFERENCE_SERVICE_NAME", "PATH", "HOME", "TMPDIR", "PYTHON", "LD_", "GCONV_PATH",
    "GLIBC_TUNABLES", "OPENSSL_", "BASH_ENV", "ENV", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "OMP_TOOL_LIBRARIES", "CUDA_INJECTION64_PATH",
    "NVIDIA_",
)  # fmt: skip
"""Variables, or their beginnings, that choose the code or the devices of a predictor.

With one of them, a file of an artifact would be executed, or a GPU used that was not requested.
"""
_DEVICE = re.compile(rf"{_DOMAIN}/{_NAME}")
_NATIVE = ("cpu", "memory", "ephemeral-storage")


class EnvVar(Resource):
    """A variable with a value. It reaches the program literally: ``$(NAME)`` is not expanded."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$", description="name")
    value: str = Field(default="", max_length=4096, description="value")

    def pod_variable(self) -> dict[str, str]:
        """Return the variable of a container. The API server drops an empty value."""
        value = {"value": literal(self.value)} if self.value else {}
        return {"name": self.name, **value}


def literal(text: str) -> str:
    """Escape ``$``, so that Kubernetes does not expand ``$(NAME)``."""
    return text.replace("$", "$$")


def _unique(variables: list[EnvVar]) -> list[EnvVar]:
    names = [each.name for each in variables]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is set twice; keep one of the values")
    return variables


Environment = Annotated[list[EnvVar], Field(max_length=64), AfterValidator(_unique)]


def check_variables(variables: Iterable[EnvVar], reserved: tuple[str, ...], remedy: str) -> None:
    """Raise ValueError for a variable that is reserved.

    ``reserved`` has whole names, and beginnings, which end with ``_`` or are ``PYTHON``.
    """
    for name in (each.name for each in variables):
        for word in reserved:
            if name == word or ((word.endswith("_") or word == "PYTHON") and name.startswith(word)):
                raise ValueError(f"{name} is reserved; {remedy}")


class ResourceRequirements(Resource):
    """Requests and limits of a container. Where one of both is not set, it equals the other."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict, max_length=16, description="amounts that the node sets aside"
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict, max_length=16, description="amounts that the container may use"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        self.requests = {**self.limits, **self.requests}
        self.limits = {**self.requests, **self.limits}
        for name, request in self.requests.items():
            limit = self.limits[name]
            if name not in _NATIVE and not _DEVICE.fullmatch(name):
                raise ValueError(
                    f"{name!r:.80} is not a resource; write cpu, memory, ephemeral-storage, or a "
                    "device such as nvidia.com/gpu"
                )
            if amount(request) > amount(limit):
                raise ValueError(f"{name}: request {request} is above limit {limit}; raise it")
            if name not in _NATIVE and (request != limit or amount(limit) % 1):
                raise ValueError(
                    f"{name}: devices are whole and not shared; write the same whole number as "
                    "request and limit, or the limit alone"
                )
        return self


class Toleration(Resource):
    """A taint of nodes that is tolerated."""

    key: LabelKey = Field(description="key of the taint")
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="Equal: key and value; Exists: the key with any value"
    )
    value: LabelValue | None = Field(default=None, description="value of the taint, with Equal")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="effect of the taint; none: all effects"
    )
    toleration_seconds: int | None = Field(
        default=None,
        ge=0,
        le=86400,
        description="seconds that a pod stays on a node with a new taint, with NoExecute",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError("operator Exists has no value; remove value, or write Equal")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect NoExecute; set it")
        return self


def _check_values(operator: str, values: list[str]) -> None:
    if operator in ("In", "NotIn") and not values:
        raise ValueError(f"operator {operator} needs values; add one, or write Exists")
    if operator in ("Exists", "DoesNotExist") and values:
        raise ValueError(f"operator {operator} has no values; remove them, or write In")
    if operator in ("Gt", "Lt") and not (len(values) == 1 and re.fullmatch("-?[0-9]+", values[0])):
        raise ValueError(f"operator {operator} needs one whole number as its value")


class NodeRequirement(Resource):
    """A condition on a label of a node."""

    key: LabelKey = Field(description="label of the node")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="how the values are compared"
    )
    values: list[LabelValue] = Field(
        default_factory=list, max_length=64, description="values; none with Exists, DoesNotExist"
    )

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        _check_values(self.operator, self.values)
        return self


class NodeTerm(Resource):
    """Conditions that a node meets together."""

    match_expressions: list[NodeRequirement] = Field(
        min_length=1, max_length=16, description="conditions"
    )


class NodeTerms(Resource):
    """Alternatives, one of which a node must meet."""

    node_selector_terms: list[NodeTerm] = Field(
        min_length=1, max_length=16, description="alternatives"
    )


_Weight = Annotated[int, Field(ge=1, le=100)]


class WeightedNodeTerm(Resource):
    """A preferred kind of nodes."""

    weight: _Weight = Field(description="weight among the preferences")
    preference: NodeTerm = Field(description="conditions")


class NodeAffinity(Resource):
    """Nodes that pods need, or prefer."""

    required_during_scheduling_ignored_during_execution: NodeTerms | None = Field(
        default=None, description="nodes that a pod needs"
    )
    preferred_during_scheduling_ignored_during_execution: list[WeightedNodeTerm] = Field(
        default_factory=list, max_length=16, description="nodes that a pod prefers"
    )


class LabelRequirement(Resource):
    """A condition on a label of a pod."""

    key: LabelKey = Field(description="label of the pod")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="how the values are compared"
    )
    values: list[LabelValue] = Field(
        default_factory=list, max_length=64, description="values; none with Exists, DoesNotExist"
    )

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        _check_values(self.operator, self.values)
        return self


class LabelSelector(Resource):
    """Pods of the same namespace, by their labels."""

    match_labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=16, description="labels with their values"
    )
    match_expressions: list[LabelRequirement] = Field(
        default_factory=list, max_length=16, description="conditions"
    )

    @model_validator(mode="after")
    def _selects(self) -> Self:
        if not self.match_labels and not self.match_expressions:
            raise ValueError("selects every pod; add matchLabels or matchExpressions")
        return self


class PodTerm(Resource):
    """Pods, and the scope that counts as the same place."""

    label_selector: LabelSelector = Field(description="pods of the same namespace")
    topology_key: LabelKey = Field(
        description="label of nodes that are one place, such as kubernetes.io/hostname"
    )


class WeightedPodTerm(Resource):
    """A preferred place."""

    weight: _Weight = Field(description="weight among the preferences")
    pod_affinity_term: PodTerm = Field(description="pods and place")


class PodAffinity(Resource):
    """Places that pods share, or avoid."""

    required_during_scheduling_ignored_during_execution: list[PodTerm] = Field(
        default_factory=list, max_length=16, description="places that are necessary"
    )
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodTerm] = Field(
        default_factory=list, max_length=16, description="places that are preferred"
    )


class Affinity(Resource):
    """Placement relative to nodes and other pods."""

    node_affinity: NodeAffinity | None = Field(default=None, description="nodes")
    pod_affinity: PodAffinity | None = Field(default=None, description="pods to be near to")
    pod_anti_affinity: PodAffinity | None = Field(default=None, description="pods to be apart from")


def is_reserved(key: str) -> bool:
    """Return whether the key of a label or annotation has a reserved domain."""
    domain = key.rpartition("/")[0]
    return any(domain == each or domain.endswith(f".{each}") for each in RESERVED_DOMAINS)


def _check_reserved(keys: Iterable[str], names: frozenset[str]) -> None:
    for key in keys:
        if key in names or is_reserved(key):
            raise ValueError(f"{key} is reserved; use a domain of your own, such as example.org/x")


class Predictor(Resource):
    """Pods of each version. A change replaces them one after the other, without a gap."""

    runtime: ObjectName | None = Field(
        default=None,
        description=(
            "ServingRuntime or ClusterServingRuntime that supports protocol v2; none: that of the "
            "platform"
        ),
    )
    format: Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")] | None = Field(
        default=None,
        description=(
            "format by which the runtime loads the files, such as `sklearn`; none: `slipway`, the "
            "platform's, which proves the digest that it serves"
        ),
    )
    resources: ResourceRequirements | None = Field(
        default=None,
        description="requests and limits that replace those of the runtime, GPUs included",
    )
    env: Environment = Field(
        default_factory=list, description="additional variables of the runtime"
    )
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=32, description="labels that a node must have"
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=32, description="taints that are tolerated"
    )
    affinity: Affinity | None = Field(
        default=None, description="placement relative to nodes and other pods"
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="PriorityClass; none: the cluster's default"
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description=(
            "ServiceAccount, for image pull Secrets and cloud identities; its token is not mounted"
        ),
    )
    pod_labels: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=32, description="additional labels of the pods"
    )
    pod_annotations: dict[LabelKey, Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=dict,
        max_length=32,
        description="additional annotations of the pods, with a domain: example.org/cost-centre",
    )

    @model_validator(mode="after")
    def _has_a_runtime_for_the_format(self) -> Self:
        if self.format and not self.runtime:
            raise ValueError(
                f"format {self.format} needs a runtime that lists it; set runtime, or omit format"
            )
        return self

    @field_validator("env")
    @classmethod
    def _chooses_no_code(cls, env: list[EnvVar]) -> list[EnvVar]:
        remedy = "set it in a ServingRuntime of your own and name that as runtime"
        check_variables(env, (*RESERVED_VARIABLES, *LOADER_VARIABLES), remedy)
        return env

    @field_validator("priority_class_name")
    @classmethod
    def _is_not_a_system_class(cls, name: str | None) -> str | None:
        if name and name.startswith("system-"):
            raise ValueError(f"{name} is for the cluster's own pods; name another PriorityClass")
        return name

    @field_validator("pod_labels")
    @classmethod
    def _selects_nothing(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        _check_reserved(given, RESERVED_LABELS)
        return given

    @field_validator("pod_annotations")
    @classmethod
    def _configures_nothing(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        _check_reserved(given, frozenset(key for key in given if "/" not in key))
        return given

    def pod_spec(self) -> dict[str, Any]:
        """Return the fields that a pod spec has under the same names."""
        names = {"node_selector", "tolerations", "affinity", "priority_class_name"}
        fields: dict[str, Any] = _without_empty(
            self.model_dump(mode="json", by_alias=True, include={*names, "service_account_name"})
        )
        for toleration in fields.get("tolerations", ()):
            if not toleration.get("value", "x"):  # the API server drops it, unlike that of a label
                del toleration["value"]
        return fields


def _without_empty(node: Any) -> Any:
    """Return the object without empty fields, which the API server drops; a label may be ""."""
    if isinstance(node, dict):
        fields = {key: _without_empty(value) for key, value in node.items()}
        return {key: value for key, value in fields.items() if value not in (None, [], {})}
    return [_without_empty(each) for each in node] if isinstance(node, list) else node
