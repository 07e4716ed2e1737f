"""What the controller is told by its environment."""

import pytest
from slipway_controller.settings import ControllerSettings


def test_the_predictors_token_goes_into_each_request_and_into_no_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLIPWAY_CLUSTER", "kubernetes://slipway")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    assert ControllerSettings().predictor_headers == {}
    monkeypatch.setenv("SLIPWAY_PREDICTOR_TOKEN", "a-secret-of-predictors")
    settings = ControllerSettings()
    assert settings.predictor_headers == {"authorization": "Bearer a-secret-of-predictors"}
    assert "a-secret" not in repr(settings)
