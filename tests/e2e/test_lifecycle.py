"""The whole model lifecycle, by kubectl and HTTP."""

import httpx

from tests.e2e.conftest import KindStack, kubectl
from tests.support.processes import START_SECONDS
from tests.support.stack import PATIENT, v2
from tests.support.waiting import SECONDS, wait_for


def test_from_a_training_job_to_a_monitored_prediction(
    stack: KindStack, user: httpx.Client, stamp: str
) -> None:
    assert user.get("/v1/me").json()["roles"] == ["user"]

    kubectl("create", "job", f"train-heart-{stamp}", "--from=cronjob/train-heart")
    trained = stack.result(f"train-heart-{stamp}")
    assert trained["state"] == "registered"
    version = trained["version"]

    promoted = stack.job("promote", "heart", version, "--min-gain=-0.01")
    assert promoted["status"] == "Complete", promoted
    wait_for(
        f"version {version} to take all traffic",
        lambda: stack.live("heart") == version,
        START_SECONDS,
    )

    answer = wait_for("an answer of the new version", lambda: answer_of(user, version))
    assert answer.json()["model_name"] == "heart"
    assert answer.headers["Slipway-Digest"] == trained["digest"]

    number = answer.headers["X-Request-ID"]
    assert user.post(f"/v1/predictions/{number}/feedback", json={"label": 1}).status_code == 201
    receipt = wait_for("the receipt", lambda: user.get(f"/v1/predictions/{number}").json())
    assert receipt["runId"] == trained["runId"]
    assert receipt["feedback"]["label"] == 1

    for age in range(30, 90):
        assert (
            user.post("/v2/models/heart/infer", json=v2({**PATIENT, "age": age})).status_code == 200
        )
    report = stack.job("monitor", "heart", "--window", "1h")
    assert report["state"] in ("stable", "drift")
    assert report["rows"] >= 60
    artifacts = f"{stack.mlflow_url}/api/2.0/mlflow/artifacts/list"
    listed = httpx.get(
        artifacts, params={"run_id": report["runId"]}, auth=stack.mlflow_login, timeout=SECONDS
    ).json()
    assert "drift.html" in [file["path"] for file in listed["files"]]


def answer_of(user: httpx.Client, version: str) -> httpx.Response | None:
    answer = user.post("/v2/models/heart/infer", json=v2(PATIENT))
    return answer if answer.headers.get("Slipway-Version") == version else None


def test_describe_shows_the_status_of_a_model(stack: KindStack) -> None:
    output = kubectl("describe", "model", "heart").stdout
    assert f"version {stack.live('heart')} answers" in output
