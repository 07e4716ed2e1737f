"""Parts of a pod that the author of a Model chooses."""

from typing import Any

import pytest
from pydantic import ValidationError
from slipway_contract.model import Model, admitted
from slipway_contract.pod import Predictor
from slipway_contract.quantity import canonical

GPU = "nvidia.com/gpu"
PREDICTOR: dict[str, Any] = {
    "runtime": "example-runtime",
    "format": "sklearn",
    "resources": {"requests": {"cpu": "1500m", "memory": "1024Mi"}, "limits": {GPU: 1}},
    "env": [{"name": "OMP_NUM_THREADS", "value": "2"}, {"name": "EMPTY"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a100"]}]}
                ]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 5,
                    "preference": {
                        "matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]
                    },
                }
            ],
        },
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "labelSelector": {"matchLabels": {"slipway.dev/model": "churn"}},
                    "topologyKey": "kubernetes.io/hostname",
                }
            ]
        },
    },
    "priorityClassName": "online",
    "serviceAccountName": "puller",
    "podLabels": {"example.org/team": "risk"},
    "podAnnotations": {"prometheus.io/scrape": "true"},
}


def manifest(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.slipway.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "churn"},
        "spec": {"registeredModel": "churn", **spec},
    }


def test_a_predictor_survives_a_round_trip() -> None:
    model = admitted(manifest(predictor=PREDICTOR))
    assert Model.model_validate(model.manifest()) == model


def test_a_pod_spec_has_the_chosen_fields_and_no_empty_one() -> None:
    spec = Predictor.model_validate(PREDICTOR).pod_spec()
    names = ("nodeSelector", "affinity", "priorityClassName", "serviceAccountName", "tolerations")
    assert spec == {key: PREDICTOR[key] for key in names}
    assert Predictor().pod_spec() == {}


def requirements(**amounts: dict[str, Any]) -> dict[str, Any]:
    found = Predictor.model_validate({"resources": amounts}).resources
    assert found
    return found.manifest()


def test_the_empty_value_of_a_label_stays_and_that_of_a_toleration_does_not() -> None:
    role = {"node-role.kubernetes.io/gpu": ""}
    selector = {"matchLabels": {"example.org/solo": ""}}
    term = {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    tolerated = {"key": "gpu", "operator": "Equal", "value": ""}
    spec = Predictor.model_validate(
        {"nodeSelector": role, "affinity": apart, "tolerations": [tolerated]}
    ).pod_spec()
    assert spec["nodeSelector"] == role
    assert spec["affinity"] == apart
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Equal"}]


@pytest.mark.parametrize("name", ["NVIDIA_VISIBLE_DEVICES", "_JAVA_OPTIONS", "CLASSPATH"])
def test_a_variable_that_chooses_code_or_devices_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Predictor.model_validate({"env": [{"name": name, "value": "x"}]})


def test_a_request_without_a_limit_gets_one_and_a_limit_a_request() -> None:
    assert requirements(requests={"cpu": "1500m", "memory": "2Gi"}, limits={"cpu": 2, GPU: 1}) == {
        "requests": {"cpu": "1500m", "memory": "2Gi", GPU: "1"},
        "limits": {"cpu": "2", "memory": "2Gi", GPU: "1"},
    }


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1000Mi", "1000Mi"),
        ("0.5Ki", "512"),
        ("1000k", "1M"),
        ("2048k", "2048k"),
        ("0", "0"),
        ("0.1Gi", "107374182400m"),
    ],
)
def test_a_quantity_gets_the_form_that_the_api_server_stores(written: str, stored: str) -> None:
    assert canonical(written) == stored
    assert canonical(stored) == stored


@pytest.mark.parametrize("quantity", ["9999Pi", "1000P", "999999999999999P"])
def test_a_quantity_that_the_api_server_cannot_store_is_rejected(quantity: str) -> None:
    with pytest.raises(ValueError, match="write a quantity below 1000P"):
        canonical(quantity)
    assert canonical("999P") == "999P"


@pytest.mark.parametrize(
    ("predictor", "field", "text"),
    [
        ({"image": "evil"}, "image", "Extra inputs"),
        ({"securityContext": {"privileged": True}}, "securityContext", "Extra inputs"),
        ({"volumes": [{"hostPath": {"path": "/"}}]}, "volumes", "Extra inputs"),
        ({"hostNetwork": True}, "hostNetwork", "Extra inputs"),
        ({"automountServiceAccountToken": True}, "automountServiceAccountToken", "Extra inputs"),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "env.0.valueFrom", "Extra inputs"),
        ({"env": [{"name": "SLIPWAY_SERVING_TOKEN"}]}, "env", "is reserved; set it in a Serving"),
        ({"env": [{"name": "MLSERVER_MODEL_IMPLEMENTATION"}]}, "env", "is reserved"),
        ({"env": [{"name": "LD_PRELOAD", "value": "/mnt/models/x.so"}]}, "env", "is reserved"),
        ({"env": [{"name": "PYTHONSTARTUP"}]}, "env", "is reserved"),
        ({"env": [{"name": "A"}, {"name": "A"}]}, "env", "A is set twice; keep one"),
        ({"env": [{"name": "A-B"}]}, "env.0.name", "pattern"),
        ({"env": [{"name": "A", "value": "x" * 4097}]}, "env.0.value", "at most 4096"),
        ({"env": [{"name": f"A{n}"} for n in range(65)]}, "env", "at most 64"),
        ({"resources": {"limits": {"gpu": 1}}}, "resources", "such as nvidia.com/gpu"),
        ({"resources": {"limits": {GPU: "500m"}}}, "resources", "whole and not shared"),
        (
            {"resources": {"requests": {GPU: 1}, "limits": {GPU: 2}}},
            "resources",
            "whole and not shared",
        ),
        ({"resources": {"limits": {"cpu": "1 core"}}}, "resources.limits.cpu", "such as 500m"),
        ({"resources": {"limits": {"cpu": 0.5}}}, "resources.limits.cpu", "whole number or a text"),
        ({"resources": {"limits": {"memory": "-1"}}}, "resources.limits.memory", "such as 500m"),
        (
            {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "500m"}}},
            "resources",
            "request 2 is above limit 500m; raise it",
        ),
        ({"runtime": "Runtime/x"}, "runtime", "pattern"),
        ({"format": "sklearn"}, "", "set runtime, or omit format"),
        ({"priorityClassName": "system-node-critical"}, "priorityClassName", "another PriorityCl"),
        ({"podLabels": {"app": "isvc.heart-1"}}, "podLabels", "app is reserved; use a domain"),
        ({"podLabels": {"app.kubernetes.io/component": "gateway"}}, "podLabels", "is reserved"),
        ({"podLabels": {"slipway.dev/model": "other"}}, "podLabels", "is reserved"),
        ({"podLabels": {"a": "x" * 64}}, "podLabels.a", "pattern"),
        (
            {"podAnnotations": {"k8s.v1.cni.cncf.io/networks": "host"}},
            "podAnnotations",
            "is reserved",
        ),
        ({"podAnnotations": {"io.kubernetes.cri-o.Devices": "x"}}, "podAnnotations", "reserved"),
        ({"nodeSelector": {"a b": "c"}}, "nodeSelector.a b.[key]", "pattern"),
        ({"tolerations": [{"operator": "Exists"}]}, "tolerations.0.key", "Field required"),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
            "tolerations.0",
            "has no value; remove value",
        ),
        (
            {"tolerations": [{"key": "a", "tolerationSeconds": 5}]},
            "tolerations.0",
            "needs effect NoExecute",
        ),
        (
            {
                "affinity": {
                    "podAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {"labelSelector": {}, "topologyKey": "zone"}
                        ]
                    }
                }
            },
            "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution.0.labelSelector",
            "selects every pod; add matchLabels",
        ),
    ],
)
def test_an_invalid_choice_is_rejected_with_the_field_and_the_remedy(
    predictor: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        admitted(manifest(predictor=predictor))
    found = {".".join(map(str, e["loc"])): e["msg"] for e in refused.value.errors()}
    assert text in found[f"spec.predictor.{field}".rstrip(".")]


@pytest.mark.parametrize(
    ("operator", "values", "text"),
    [
        ("In", [], "operator In needs values; add one, or write Exists"),
        ("Exists", ["a"], "operator Exists has no values; remove them, or write In"),
        ("Gt", ["many"], "operator Gt needs one whole number"),
    ],
)
def test_the_values_of_a_condition_fit_its_operator(
    operator: str, values: list[str], text: str
) -> None:
    condition = {"key": "cores", "operator": operator, "values": values}
    term = {"nodeSelectorTerms": [{"matchExpressions": [condition]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}
    with pytest.raises(ValidationError, match=text):
        Predictor.model_validate({"affinity": affinity})
