"""The desired InferenceService of one version of a model."""

from typing import Any

import pytest
from slipway_contract.model import Model
from slipway_controller.inference_service import desired


def environment(**spec: Any) -> dict[str, str]:
    model = Model.model_validate(
        {"metadata": {"name": "heart"}, "spec": {"registeredModel": "heart", **spec}}
    )
    served = desired(model, "3", "sha256:" + "0" * 64)["spec"]["predictor"]["model"]
    return {each["name"]: each["value"] for each in served["env"]}


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
