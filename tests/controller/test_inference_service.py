"""The desired InferenceService of one version of a model."""

from typing import Any

import pytest
from slipway_contract import labels
from slipway_contract.model import Model
from slipway_contract.registry import StorageUri
from slipway_controller.diagnosis import Diagnosis
from slipway_controller.inference_service import changes, desired, observed


def predictor(**spec: Any) -> dict[str, Any]:
    model = Model.model_validate(
        {"metadata": {"name": "heart"}, "spec": {"registeredModel": "heart", **spec}}
    )
    found: dict[str, Any] = desired(model, "3", "sha256:" + "0" * 64)["spec"]["predictor"]
    return found


def environment(**spec: Any) -> dict[str, str]:
    return {each["name"]: each["value"] for each in predictor(**spec)["model"]["env"]}


@pytest.mark.parametrize(
    ("spec", "size", "seconds"),
    [
        ({}, "0", "0"),
        ({"batching": None}, "0", "0"),
        ({"batching": {}}, "32", "0.005"),
        ({"batching": {"maxBatchSize": 8, "maxBatchTime": 0.0001}}, "8", "0.0001"),
    ],
)
def test_mlserver_gets_the_settings_of_batching_even_when_it_is_off(
    spec: dict[str, Any], size: str, seconds: str
) -> None:
    assert environment(**spec) == {
        "MLSERVER_MODEL_MAX_BATCH_SIZE": size,
        "MLSERVER_MODEL_MAX_BATCH_TIME": seconds,
    }


def test_the_predictor_of_a_model_is_carried_into_its_inference_services() -> None:
    chosen = {
        "runtime": "example-runtime",
        "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "1024Mi"}},
        "env": [{"name": "THREADS", "value": "$(HOME)"}, {"name": "EMPTY"}],
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "priorityClassName": "online",
        "serviceAccountName": "puller",
        "podLabels": {"example.org/team": "risk"},
        "podAnnotations": {"example.org/cost-centre": "7"},
    }
    found = predictor(predictor=chosen)
    quantities = {"nvidia.com/gpu": "1", "memory": "1Gi"}
    assert found["model"]["runtime"] == "example-runtime"
    assert found["model"]["resources"] == {"requests": quantities, "limits": quantities}
    assert found["model"]["env"][-2:] == [
        {"name": "THREADS", "value": "$$(HOME)"},
        {"name": "EMPTY"},
    ]
    for field in ("nodeSelector", "tolerations", "priorityClassName", "serviceAccountName"):
        assert found[field] == chosen[field]
    assert found["labels"]["example.org/team"] == "risk"
    assert found["annotations"] == {"example.org/cost-centre": "7"}


def test_the_token_is_not_mounted_and_no_pod_ends_before_a_new_one_is_ready() -> None:
    assert predictor()["automountServiceAccountToken"] is False
    found = predictor(predictor={"serviceAccountName": "puller"})
    assert found["automountServiceAccountToken"] is False
    assert found["deploymentStrategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_model_without_choices_has_the_inference_service_of_earlier_releases() -> None:
    """Compare every field: another one would restart all predictors at an upgrade."""
    assert predictor() == {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 20,
        "model": {
            "modelFormat": {"name": "slipway"},
            "runtime": "slipway-mlserver",
            "storageUri": f"mlflow://heart/3?sha256={'0' * 64}",
            "env": [
                {"name": "MLSERVER_MODEL_MAX_BATCH_SIZE", "value": "0"},
                {"name": "MLSERVER_MODEL_MAX_BATCH_TIME", "value": "0"},
            ],
        },
    }


def test_another_runtime_gets_its_format_the_protocol_and_files_without_a_class() -> None:
    found = predictor(predictor={"runtime": "kserve-mlserver", "format": "sklearn"})
    served = found["model"]
    assert served["modelFormat"] == {"name": "sklearn"}
    assert served["runtime"] == "kserve-mlserver"
    assert served["protocolVersion"] == "v2"
    assert StorageUri.parse(served["storageUri"]).implementation is False
    assert found["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert [each["name"] for each in found["volumes"]] == ["tmp"]


@pytest.mark.parametrize("reason", ["RuntimeNotRecognized", "NoSupportingRuntime"])
def test_a_runtime_that_cannot_serve_the_model_is_reported_with_a_remedy(reason: str) -> None:
    failure = {"reason": reason, "message": "KServe's words"}
    state = {"transitionStatus": "InvalidSpec", "lastFailureInfo": failure}
    spec = {"predictor": predictor(predictor={"runtime": "strange", "format": "sklearn"})}
    manifest = {"metadata": {"name": "heart-3"}, "spec": spec, "status": {"modelStatus": state}}
    found = observed(manifest)
    assert not found.verified
    assert found.diagnosis == Diagnosis(
        reason,
        "KServe's words; runtime strange must be enabled and list the format sklearn and the "
        "protocol v2: correct it, or set runtime and format in spec.predictor",
    )


def test_a_removed_field_is_a_difference() -> None:
    with_selector = predictor(predictor={"nodeSelector": {"gpu": "a100"}})
    choices: list[dict[str, Any] | None] = [None, {}, {"nodeSelector": {}}]
    for chosen in choices:
        without = {"spec": {"predictor": predictor(predictor=chosen)}}
        assert changes({"spec": {"predictor": with_selector}}, without) == [
            f"spec.predictor.labels.{labels.TEMPLATE}"
        ]
    assert predictor(predictor={}) == predictor()
