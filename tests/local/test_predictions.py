"""Predictions with receipts, and clear rejections."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.local.conftest import LocalStack
from tests.support.stack import PATIENT, pixels, v2
from tests.support.waiting import SECONDS

pytestmark = pytest.mark.stack


def test_a_logged_in_user_gets_a_prediction_with_version_digest_and_request_id(
    stack: LocalStack, user: httpx.Client
) -> None:
    answer = user.post("/v1/models/heart/predictions", json={"instances": [PATIENT]})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["predictions"][0]["label"] == 1
    assert body["predictions"][0]["probability"] > 0.5
    live = stack.model("heart").status.traffic[0]
    assert (body["version"], body["digest"]) == (live.version, live.digest)
    assert body["requestId"] == answer.headers["X-Request-ID"]


def test_v2_and_named_features_give_the_same_answer(user: httpx.Client) -> None:
    named = user.post("/v1/models/heart/predictions", json={"instances": [PATIENT]}).json()[
        "predictions"
    ][0]
    answer = user.post("/v2/models/heart/infer", json=v2(PATIENT))
    assert answer.json()["model_name"] == "heart"
    assert {output["name"]: output["data"][0] for output in answer.json()["outputs"]} == named
    assert answer.headers["Slipway-Model"] == "heart"
    assert answer.headers["Slipway-Digest"].startswith("sha256:")


def test_an_unmodified_client_of_nvidia_gets_a_prediction(stack: LocalStack) -> None:
    python = Path(".venv-serving/bin/python")  # MLServer brings tritonclient with it
    script = Path("tests/e2e/clients/tritonclient_binary.py")
    command: list[str | Path] = [
        python,
        script,
        stack.url,
        stack.token("user"),
        json.dumps(PATIENT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "heart label 1"


def test_missing_values_are_imputed_by_the_model(user: httpx.Client) -> None:
    answer = user.post(
        "/v1/models/heart/predictions", json={"instances": [{**PATIENT, "ca": None, "thal": None}]}
    )
    assert answer.status_code == 200, answer.text


def test_the_receipt_has_caller_dataset_request_and_response(user: httpx.Client) -> None:
    request = user.post("/v1/models/heart/predictions", json={"instances": [PATIENT]}).json()
    receipt = user.get(f"/v1/predictions/{request['requestId']}").json()
    assert receipt["version"] == request["version"]
    assert receipt["digest"] == request["digest"]
    assert (receipt["caller"], receipt["decision"]) == ("user:user", "predict:user")
    assert receipt["dataset"]["name"] == "heart-synthetic"
    assert receipt["dataset"]["digest"].startswith("sha256:")
    assert {tensor["name"]: tensor["data"] for tensor in receipt["request"]["inputs"]} == {
        k: [v] for k, v in PATIENT.items()
    }
    for key in ("runId", "gitRevision", "image", "time", "latencyMs", "response"):
        assert receipt[key], key


def test_feedback_joins_the_receipt_and_the_last_one_counts(user: httpx.Client) -> None:
    number = user.post("/v1/models/heart/predictions", json={"instances": [PATIENT]}).json()[
        "requestId"
    ]
    for label in (1, 0):
        answer = user.post(
            f"/v1/predictions/{number}/feedback",
            json={"label": label, "comment": "seen by a physician"},
        )
        assert answer.status_code == 201, answer.text
    assert user.get(f"/v1/predictions/{number}").json()["feedback"]["label"] == 0


def test_only_the_owner_and_admins_can_read_a_receipt(
    stack: LocalStack, user: httpx.Client
) -> None:
    number = user.post("/v1/models/heart/predictions", json={"instances": [PATIENT]}).json()[
        "requestId"
    ]
    with stack.client("scientist") as other, stack.client("admin") as admin:
        assert other.get(f"/v1/predictions/{number}").status_code == 404
        assert (
            other.post(f"/v1/predictions/{number}/feedback", json={"label": 1}).status_code == 404
        )
        assert admin.get(f"/v1/predictions/{number}").status_code == 200


def test_me_returns_subject_and_roles(stack: LocalStack) -> None:
    with stack.client("scientist") as client:
        body = client.get("/v1/me").json()
    assert body["subject"] == "user:scientist"
    assert "scientist" in body["roles"]


def test_the_models_are_listed_with_their_inputs(user: httpx.Client) -> None:
    listed = {model["name"]: model for model in user.get("/v1/models").json()["models"]}
    assert listed["heart"]["ready"]
    assert listed["digits"]["ready"]
    heart = user.get("/v1/models/heart").json()
    assert [column["name"] for column in heart["signature"]["inputs"]] == list(PATIENT)


HEART: list[tuple[str, dict[str, Any], int, str]] = [
    ("a string for a number", v2(PATIENT, chol={"data": ["high"]}), 422, "chol"),
    ("age -5", v2({**PATIENT, "age": -5}), 422, "age"),
    ("thal 9", v2({**PATIENT, "thal": 9}), 422, "thal"),
    ("a wrong shape", v2(PATIENT, chol={"shape": [1, 2], "data": [1, 2]}), 422, "chol"),
    ("an unknown input", v2({**PATIENT, "weight": 80}), 422, "weight"),
    ("a missing input", v2({k: v for k, v in PATIENT.items() if k != "chol"}), 422, "chol"),
    ("null where nothing may be missing", v2({**PATIENT, "age": None}), 422, "age"),
]
DIGITS: list[tuple[str, dict[str, Any], int, str]] = [
    ("63 pixels", pixels([0.0] * 63), 422, "pixels"),
    ("63 pixels called 64", pixels([0.0] * 63, [1, 64]), 422, "pixels"),
    ("a pixel of 17", pixels([0.0] * 63 + [17.0]), 422, "pixels"),
]


@pytest.mark.parametrize(
    ("model", "body", "status", "field"),
    [pytest.param("heart", *case[1:], id=case[0]) for case in HEART]
    + [pytest.param("digits", *case[1:], id=case[0]) for case in DIGITS],
)
def test_a_v2_request_that_does_not_fit_is_rejected_by_the_name_of_the_input(
    user: httpx.Client, model: str, body: dict[str, Any], status: int, field: str
) -> None:
    answer = user.post(f"/v2/models/{model}/infer", json=body)
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (status, field)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({**PATIENT, "chol": "high"}, "chol"),
        ({**PATIENT, "age": -5}, "age"),
        ({**PATIENT, "thal": 9}, "thal"),
        ({**PATIENT, "weight": 80}, "weight"),
        ({k: v for k, v in PATIENT.items() if k != "chol"}, "chol"),
    ],
)
def test_a_row_that_does_not_fit_is_a_problem_that_names_the_feature(
    user: httpx.Client, row: dict[str, Any], field: str
) -> None:
    answer = user.post("/v1/models/heart/predictions", json={"instances": [row]})
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert field in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v2/models/heart/infer", "/v1/models/heart/predictions"])
@pytest.mark.parametrize(
    "content",
    [
        json.dumps(v2({**PATIENT, "age": float("nan")})).encode(),
        b"[" * 10_000 + b"]" * 10_000,
        b'{"inputs": [',
        b"\xff\xfe",
    ],
    ids=["NaN", "10,000 deep", "cut off", "no text"],
)
def test_a_body_that_is_not_json_is_rejected(user: httpx.Client, path: str, content: bytes) -> None:
    answer = user.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize("path", ["/v2/models/heart/infer", "/v1/models/heart/predictions"])
def test_a_body_of_100_mb_is_rejected_and_memory_stays_flat(
    stack: LocalStack, user: httpx.Client, path: str
) -> None:
    processes = stack.programs("slipway_gateway") + stack.programs("slipway-serve")
    before = [resident(process) for process in processes]
    answer = user.post(
        path, content=b"0" * 100_000_000, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    grown = [resident(process) - b for process, b in zip(processes, before, strict=True)]
    assert max(grown) < 32 * 2**20


def resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def test_an_unknown_model_is_404(user: httpx.Client) -> None:
    assert user.post("/v2/models/unknown/infer", json=v2(PATIENT)).status_code == 404
    assert (
        user.post("/v1/models/unknown/predictions", json={"instances": [PATIENT]}).status_code
        == 404
    )
