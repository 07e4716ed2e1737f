"""Settings of the controller."""

import pytest
from slipway_controller.settings import ControllerSettings


@pytest.mark.slow
def test_the_predictor_token_is_in_each_request_and_not_in_the_repr(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLIPWAY_CLUSTER", "kubernetes://slipway")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    assert ControllerSettings().predictor_headers == {}
    monkeypatch.setenv("SLIPWAY_PREDICTOR_TOKEN", "a-secret-of-predictors")
    settings = ControllerSettings()
    assert settings.predictor_headers == {"authorization": "Bearer a-secret-of-predictors"}
    assert "a-secret" not in repr(settings)
