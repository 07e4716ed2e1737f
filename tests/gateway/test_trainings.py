"""Trainings and promotions over HTTP, with small programs as Jobs in the local cluster."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from slipway_cluster.interface import JOB
from slipway_contract import labels
from slipway_contract.labels import PARAMETERS, REQUEST
from slipway_local.standin.kubelet import Image, Kubelet, KubeletOptions

from tests.gateway.environment import Client, Environment
from tests.support.waiting import wait_for

ENDS = ("succeeded", "failed")
BIN = Path(__file__).parents[2] / ".venv" / "bin"
TRAIN = """
import json, os, sys, pathlib, time
print("training", *sys.argv[1:], flush=True)
deadline = time.monotonic() + 500
if "--set=estimator=slow" in sys.argv:
    while not pathlib.Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
if "--set=estimator=wrong" in sys.argv:
    sys.exit(1)
print(json.dumps({"state": "trained", "version": "4", "by": os.environ["SLIPWAY_ACTOR"],
"args": sys.argv[1:]}), flush=True)
"""
PROMOTE = """
import json, os, sys
print(json.dumps({"state": "refused" if "2" in sys.argv else "passed", "args": sys.argv[1:]}))
sys.exit(3 if "2" in sys.argv else 0)
"""
SCHEMA = {
    "type": "object",
    "properties": {
        "estimator": {"enum": ["logistic", "slow", "wrong"], "description": "the kind"},
        "C": {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}],
            "description": "inverse strength",
        },
        "seed": {"type": "integer", "minimum": 0},
        "note": {"type": "string"},
    },
}


def template(name: str, code: str, **annotations: str) -> dict[str, Any]:
    container = {"name": "job", "image": "jobs", "command": ["python", "-c", code, name]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    limits = {"successfulJobsHistoryLimit": 100, "failedJobsHistoryLimit": 100}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"schedule": "@yearly", "suspend": True, **limits, "jobTemplate": {"spec": spec}},
    }


def declare(environment: Environment, name: str, training: dict[str, Any] | None) -> None:
    environment.model(name, ("3", 100))
    spec: dict[str, Any] = {"registeredModel": name, "alias": "champion"}
    manifest = {
        "apiVersion": "serving.slipway.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name},
        "spec": spec,
    }
    spec |= {"training": training} if training else {}
    environment.cluster.apply(manifest)


@pytest.fixture(scope="module")
def works(new_environment: Callable[[], Environment]) -> Iterator[Environment]:
    """Yield an environment with a cluster that runs Jobs."""
    environment = new_environment()
    own = template("train-heart", TRAIN, **{PARAMETERS: orjson.dumps(SCHEMA).decode()})
    own["metadata"]["labels"] = {labels.MODEL: "heart", labels.MANAGED_BY: labels.FIELD_MANAGER}
    environment.cluster.apply(own)
    environment.cluster.apply(template("train-taken", TRAIN))
    environment.cluster.apply(template("silent", TRAIN))
    environment.cluster.apply(template("broken", TRAIN, **{PARAMETERS: "{no JSON"}))
    environment.cluster.apply(template("promote", PROMOTE))
    for name, training in (
        ("heart", {"job": {"args": ["the", "controller", "reads"]}}),
        ("digits", {"template": "silent"}),
        ("odd", {"template": "broken"}),
        ("lost", {"template": "gone"}),
        ("hand", None),
        ("taken", {"job": {}}),
    ):
        declare(environment, name, training)
    stop = threading.Event()
    kubelet = Kubelet(
        environment.folder / "cluster",
        {"jobs": Image(BIN, workdir=environment.folder)},
        options=KubeletOptions(turn_seconds=0.05),
    )
    thread = threading.Thread(target=kubelet.run, args=(stop,))
    thread.start()
    yield environment
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def client(works: Environment) -> Iterator[Client]:
    with works.gateway() as client:
        wait_for("the models", lambda: len(client.get("/v1/models").json()["models"]) == 6)
        yield client


@pytest.fixture(scope="module")
def marie(works: Environment) -> str:
    return works.issuer.token("marie", "scientist")


def train(
    client: Client, who: str, model: str = "heart", /, key: str | None = None, **parameters: Any
) -> httpx.Response:
    headers = {"Idempotency_Key": key} if key else {}
    return client.post(f"/v1/models/{model}/trainings", {"parameters": parameters}, who, **headers)


def ended(client: Client, who: str, path: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        seen: dict[str, Any] = client.get(path, who).json()
        return seen if seen["state"] in ENDS else None

    return wait_for(f"the end of {path}", look)


def test_a_training_is_a_job_with_the_given_parameters(client: Client, marie: str) -> None:
    answer = train(client, marie, C=0.1, seed=7, note="$(SECRET) it's; --dataset=x", estimator=None)
    assert answer.status_code == 422, "null is not a valid estimator"
    answer = train(client, marie, C=None, seed=7, note="$(SECRET) it's; --dataset=x")
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    path = answer.headers["location"]
    found = ended(client, marie, path)
    args = ["train-heart", "--set=seed=7", "--set=note=$(SECRET) it's; --dataset=x"]
    assert (found["state"], found["submittedBy"], found["model"]) == (
        "succeeded",
        "user:marie",
        "heart",
    )
    assert found["result"] == {"state": "trained", "version": "4", "by": "user:marie", "args": args}
    assert found["parameters"] == {"C": None, "seed": 7, "note": "$(SECRET) it's; --dataset=x"}
    assert found["created"] <= found["finished"]
    log = client.get(f"{path}/logs", marie)
    assert log.headers["content-type"].startswith("text/plain")
    assert (
        log.text.splitlines()[0]
        == "training train-heart --set=seed=7 --set=note=$(SECRET) it's; --dataset=x"
    )


@pytest.mark.parametrize(
    ("model", "parameters", "field", "problem"),
    [
        ("heart", {"depth": 3}, "parameters.depth", "it takes estimator, C, seed, note"),
        ("heart", {"seed": "7"}, "parameters.seed", "'7' is not of type 'integer'"),
        ("heart", {"seed": -1}, "parameters.seed", "minimum of 0"),
        ("heart", {"C": 0}, "parameters.C", "(inverse strength)"),
        ("heart", {"estimator": "magic"}, "parameters.estimator", "(the kind)"),
        ("heart", {"note": "a\0b"}, "parameters.note", "is not a string, number or boolean"),
        (
            "heart",
            {"seed": 10**20},
            "parameters.seed",
            "100000000000000000000 is not a finite number of at most 64 bits",
        ),
        ("digits", {"seed": 1}, "parameters.seed", "it takes none"),
    ],
)
def test_an_invalid_parameter_is_named_and_creates_no_job(
    client: Client, marie: str, model: str, parameters: dict[str, Any], field: str, problem: str
) -> None:
    before = len(client.environment.cluster.list(JOB))
    answer = train(client, marie, model, **parameters)
    assert answer.status_code == 422
    (finding,) = answer.json()["errors"]
    assert finding["field"] == field
    assert problem in finding["problem"]
    assert len(client.environment.cluster.list(JOB)) == before


@pytest.mark.parametrize(
    ("model", "status", "text"),
    [
        ("hand", 404, "set spec.training.template"),
        ("lost", 404, "gone does not exist"),
        ("odd", 503, "slipway.dev/parameters"),
        ("unknown", 404, "unknown"),
    ],
)
def test_training_a_model_without_a_valid_template_is_rejected(
    client: Client, marie: str, model: str, status: int, text: str
) -> None:
    answer = train(client, marie, model)
    assert answer.status_code == status
    assert text in answer.json()["detail"]


def test_only_scientists_and_admins_can_train_and_promote(client: Client) -> None:
    for path in ("/v1/models/heart/trainings", "/v1/models/heart/promotions"):
        assert client.get(path, "ada").status_code == 403
        assert client.post(path, {"version": "3"}, "ada").status_code == 403
        assert client.get(path, "root").status_code == 200


def test_the_list_has_the_schema_of_the_parameters(client: Client, marie: str) -> None:
    path = train(client, marie).headers["location"]
    listed = client.get("/v1/models/heart/trainings", marie).json()
    assert listed["parameters"] == {**SCHEMA, "additionalProperties": False}
    assert listed["trainings"][0]["trainingId"] == path.rpartition("/")[2]
    assert client.get("/v1/models/digits/trainings", marie).json() == {
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        "trainings": [],
    }
    ended(client, marie, path)


def test_an_idempotency_key_identifies_a_job_and_its_body(client: Client, marie: str) -> None:
    first, second = (train(client, marie, key="k-1", seed=5) for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert first.json()["trainingId"] == second.json()["trainingId"]
    other = train(client, marie, key="k-1", seed=6)
    assert other.status_code == 422
    assert other.json()["errors"] == [
        {
            "field": "Idempotency-Key",
            "problem": "was used for a different request; send another key",
        }
    ]
    other_caller = train(client, "root", key="k-1", seed=5)
    assert other_caller.json()["trainingId"] != first.json()["trainingId"], (
        "each caller has separate keys"
    )
    for each in (first, other_caller):
        ended(client, marie, each.headers["location"])


@pytest.mark.parametrize(
    "name", ["nothing", "promote-1", "...", "%2e%2e%2fpods", "train-heart", "a?watch=true"]
)
def test_an_invalid_job_name_is_404(client: Client, marie: str, name: str) -> None:
    assert client.get(f"/v1/models/heart/trainings/{name}", marie).status_code == 404
    assert client.get(f"/v1/models/heart/trainings/{name}/logs", marie).status_code == 404
    assert client.http.delete(
        f"/v1/models/heart/trainings/{name}", headers={"authorization": f"Bearer {marie}"}
    ).status_code in (404, 405)


def test_jobs_of_other_origins_and_of_other_models_are_404(client: Client, marie: str) -> None:
    job = client.environment.cluster.create_job("train-heart", env={"SLIPWAY_ACTOR": "x"})
    by_hand = job["metadata"]["name"]
    other = train(client, marie, "digits")
    number = other.json()["trainingId"]
    for path in (f"trainings/{by_hand}", f"trainings/{number}", f"promotions/{number}"):
        assert client.get(f"/v1/models/heart/{path}", marie).status_code == 404
    assert ended(client, marie, other.headers["location"])["state"] == "succeeded"


def test_a_job_of_the_schedule_is_a_training_without_a_submitter(
    client: Client, marie: str
) -> None:
    own = {labels.PURPOSE: "training", labels.MODEL: "heart"}
    job = client.environment.cluster.create_job(
        "train-heart", env={"SLIPWAY_ACTOR": "slipway"}, labels=own
    )
    name = job["metadata"]["name"]
    found = ended(client, marie, f"/v1/models/heart/trainings/{name}")
    assert (found["state"], found["submittedBy"], found["parameters"]) == ("succeeded", "", {})
    listed = client.get("/v1/models/heart/trainings", marie).json()["trainings"]
    assert name in [each["trainingId"] for each in listed]


def test_logs_and_cancellation_work_after_a_restart_of_the_gateway(
    works: Environment, marie: str
) -> None:
    with works.gateway() as first:
        wait_for("the models", lambda: train(first, marie, "digits").status_code == 202)
        path = train(first, marie, estimator="slow").headers["location"]
        second = train(first, marie, estimator="slow", seed=1).headers["location"]
    with works.gateway() as client:
        wait_for(
            "both run",
            lambda: (
                [client.get(each, marie).json()["state"] for each in (path, second)]
                == ["running"] * 2
            ),
        )
        headers = {"authorization": f"Bearer {marie}"}
        with client.http.stream("GET", f"{path}/logs?follow=true", headers=headers) as log:
            lines = log.iter_lines()
            assert next(lines) == "training train-heart --set=estimator=slow"
            assert client.http.delete(second, headers=headers).status_code == 204
            assert client.get(second, marie).status_code == 404
            (works.folder / "go").touch()
            assert orjson.loads(next(lines))["state"] == "trained"
            assert list(lines) == []
        assert ended(client, marie, path)["state"] == "succeeded"
        again = client.http.delete(path, headers=headers)
        assert (again.status_code, again.json()["title"]) == (409, "Conflict")


def test_a_cron_job_of_another_author_is_no_training_of_the_model(
    client: Client, marie: str
) -> None:
    answer = client.post("/v1/models/taken/trainings", {}, marie)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith(
        "the CronJob train-taken is not that of the training of model taken; delete it"
    )


def test_a_failed_training_has_a_reason(client: Client, marie: str) -> None:
    found = ended(client, marie, train(client, marie, estimator="wrong").headers["location"])
    assert (found["state"], found["result"]) == ("failed", None)
    assert "backoff limit" in found["reason"]


def test_a_promotion_gets_its_arguments_and_returns_its_result(client: Client, marie: str) -> None:
    path = "/v1/models/heart/promotions"
    asked = {
        "version": "3",
        "dryRun": True,
        "metric": "roc_auc",
        "minGain": 0.01,
        "reason": "--alias=other $(SECRET)",
    }
    answer = client.post(path, asked, marie)
    assert answer.status_code == 202
    found = ended(client, marie, answer.headers["location"])
    args = [
        "promote",
        "heart",
        "3",
        "--alias=champion",
        "--min-gain=0.01",
        "--reason=--alias=other $(SECRET)",
        "--dry-run",
    ]
    assert found["result"] == {"state": "passed", "args": [*args, "--metric=roc_auc"]}
    refused = ended(client, marie, client.post(path, {"version": "2"}, marie).headers["location"])
    assert (refused["state"], refused["result"]["state"]) == ("failed", "refused")
    history = client.get(path, marie).json()["promotions"]
    assert [(each["request"]["version"], each["submittedBy"]) for each in history] == [
        ("2", "user:marie"),
        ("3", "user:marie"),
    ]
    assert history[1] == found


def test_a_promotion_follows_the_gate_of_its_model_unless_it_is_a_dry_run(
    works: Environment, client: Client, marie: str
) -> None:
    gate = {"metric": "log_loss", "minGain": -0.01}
    works.model("gated", ("1", 100), gate=gate)
    path = "/v1/models/gated/promotions"
    by_rule = ended(client, marie, client.post(path, {"version": "3"}, marie).headers["location"])
    args = by_rule["result"]["args"]
    assert {"--min-gain=-0.01", "--metric=log_loss"} < set(args)
    other = {"version": "3", "metric": "auc", "minGain": -0.2}
    for field, wrong in (
        ("metric", {**other, "minGain": 0}),
        ("minGain", {**other, "metric": "log_loss"}),
        ("direction", {"version": "3", "direction": "max"}),
    ):
        answer = client.post(path, wrong, marie)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(f"{field}: the gate of the Model ")
        assert answer.json()["detail"].endswith("set dryRun to compare by another rule")
    stricter = client.post(path, {"version": "3", "minGain": 0.1}, marie)
    assert stricter.status_code == 202
    dry = client.post(path, {**other, "dryRun": True}, marie)
    assert {"--metric=auc", "--min-gain=-0.2", "--dry-run"} < set(
        ended(client, marie, dry.headers["location"])["result"]["args"]
    )


def test_the_best_version_is_chosen_by_a_metric_and_promoted_by_the_gate_of_its_model(
    works: Environment, client: Client, marie: str
) -> None:
    works.model("ranked", ("1", 100), gate={"metric": "log_loss"})

    def args(**asked: Any) -> set[str]:
        answer = client.post("/v1/models/ranked/promotions", {"version": "best", **asked}, marie)
        return set(ended(client, marie, answer.headers["location"])["result"]["args"])

    assert {"best", "--by=auc", "--metric=log_loss"} < args(metric="auc")
    assert {"best", "--by=log_loss", "--metric=log_loss"} < args()
    assert {"--by=auc", "--metric=log_loss", "--dry-run"} < args(metric="auc", dryRun=True)
    without = client.post("/v1/models/heart/promotions", {"version": "best"}, marie)
    assert without.status_code == 422
    assert without.json()["detail"] == ("metric: best needs one; send it, or set spec.gate.metric")
    rollback = {"version": "best", "metric": "auc", "rollback": True, "reason": "x"}
    refused = client.post("/v1/models/heart/promotions", rollback, marie)
    assert refused.status_code == 422
    assert "rollback needs a version number" in refused.json()["detail"]


def test_a_repeated_creation_has_the_result_of_a_promotion_but_not_of_a_training(
    client: Client, marie: str
) -> None:
    for purpose, body in (("promotions", {"version": "3", "dryRun": True}), ("trainings", {})):
        path, key = f"/v1/models/heart/{purpose}", {"Idempotency-Key": f"again-{purpose}"}
        location = client.post(path, body, marie, **key).headers["location"]
        assert ended(client, marie, location)["result"]
        again = client.post(path, body, marie, **key)
        assert (again.status_code, again.headers["location"]) == (202, location)
        assert bool(again.json()["result"]) is (purpose == "promotions")


def test_a_promotion_of_a_later_release_is_listed(
    client: Client, works: Environment, marie: str
) -> None:
    path = "/v1/models/heart/promotions"
    at = client.post(path, {"version": "3"}, marie).headers["location"]
    store = works.cluster.store
    with store.transaction():
        job = works.cluster.get(JOB, at.rpartition("/")[2])
        annotations = {
            **job["metadata"]["annotations"],
            REQUEST: '{"version": "3", "fieldOfALaterRelease": [1]}',
        }
        store.replace(job, {**job, "metadata": {**job["metadata"], "annotations": annotations}})
    assert ended(client, marie, at)["request"]["version"] == "3"
    assert client.get(path, marie).status_code == 200


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"version": "latest"}, "version"),
        ({"version": "3", "minGain": -1e10}, "minGain"),
        ({"version": "3", "metric": "a b"}, "metric"),
        ({"version": "3", "rollback": True}, "rollback"),
        ({"version": "3", "alias": "x"}, "alias"),
        ({}, "version"),
        ({"version": "3", "reason": "a\nb"}, "reason"),
    ],
)
def test_an_invalid_promotion_is_422_with_the_field(
    client: Client, marie: str, asked: dict[str, Any], field: str
) -> None:
    answer = client.post("/v1/models/heart/promotions", asked, marie)
    assert answer.status_code == 422
    assert field in answer.json()["detail"]


@pytest.mark.slow
def test_the_job_templates_have_the_parameters_of_their_trainings() -> None:
    from slipway.training.installed import declared_task
    from slipway.training.task import parameters_schema
    from slipway_local.local_objects import rendered

    annotations = {
        each["metadata"]["name"]: each["metadata"].get("annotations", {})
        for each in rendered()
        if each["kind"] == "CronJob"
    }
    for model in ("heart", "digits"):
        assert orjson.loads(annotations[f"train-{model}"][PARAMETERS]) == parameters_schema(
            declared_task(model)
        )
    assert PARAMETERS not in annotations["promote"]
