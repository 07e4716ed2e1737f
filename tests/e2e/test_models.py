"""Each of the other sample models, from its Job template to a V2 response."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from slipway_local.packages import declared

from tests.e2e.conftest import KindStack, kubectl, objects
from tests.support.processes import START_SECONDS
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

MODELS = declared()
OTHERS = [
    name
    for name, manifest in MODELS.items()
    if "template" in manifest["spec"]["training"] and name not in ("heart", "digits")
]
"""Models that `make kind` does not serve; a small cluster cannot run all at the same time."""


@pytest.mark.parametrize("model", OTHERS)
def test_a_model_goes_from_its_job_template_to_a_v2_answer(
    stack: KindStack, user: httpx.Client, stamp: str, model: str
) -> None:
    kubectl("create", "job", f"train-{model}-{stamp}", f"--from=cronjob/train-{model}")
    trained = stack.result(f"train-{model}-{stamp}")
    assert trained["state"] == "registered", trained
    version = trained["version"]
    promoted = stack.job("promote", model, version)
    assert promoted["state"] == "promoted", promoted
    kubectl("apply", "--filename", "-", stdin=json.dumps(MODELS[model]))
    try:
        wait_for(
            f"{model}/{version} to be live", lambda: stack.live(model) == version, START_SECONDS
        )
        request = stack.example(model, version)
        answer = wait_for(
            "an answer", lambda: good(user.post(f"/v2/models/{model}/infer", json=request))
        )
        assert answer.headers["Slipway-Digest"] == trained["digest"]
        rows = request["inputs"][0]["shape"][0]
        assert [each["shape"][0] for each in answer.json()["outputs"]] == [rows] * len(
            answer.json()["outputs"]
        )
    finally:
        kubectl("delete", "model", model)
    wait_for(
        "the end of its predictors",
        lambda: not objects("inferenceservices", f"slipway.dev/model={model}"),
        START_SECONDS,
    )


def test_quantities_are_forecast_from_sales_that_a_job_loaded(
    stack: KindStack, user: httpx.Client
) -> None:
    loaded = stack.job("etl")
    assert loaded["status"] == "Complete", loaded
    again = stack.job("etl")
    assert (again["inserted"], again["changed"]) == (0, 0), again
    trained = stack.job("train-quantity")
    assert trained["synthetic"] is True, "generated sales must be marked as synthetic"
    stack.move_alias("quantity", trained["version"])
    kubectl("apply", "--filename", "examples/sales/model.yaml")
    try:
        wait_for(
            "quantity to be live",
            lambda: stack.live("quantity") == trained["version"],
            START_SECONDS,
        )
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
        rows = [
            {"store": store, "product": "bread", "date": tomorrow}
            for store in ("Bremen", "Nowhere")
        ]
        ask = {"instances": rows}
        answer = wait_for(
            "a forecast", lambda: good(user.post("/v1/models/quantity/predictions", json=ask))
        )
        assert [each["source"] for each in answer.json()["predictions"]] == [
            "model",
            "product mean",
        ]
        assert answer.json()["features"]["newest"] < tomorrow
    finally:
        kubectl("delete", "model", "quantity")


def good(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.is_success else None
