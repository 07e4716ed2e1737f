"""The results of a training in MLflow, read by MLflow's own client."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.onnx
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import RestException
from sklearn.linear_model import LogisticRegression
from slipway.errors import WrongDigest, WrongParameter
from slipway.packaging import artifact
from slipway.packaging.inference import run_onnx
from slipway.packaging.reference import Reference
from slipway.registry.tracking import Tracking
from slipway.training.installed import declared_dataset, declared_task
from slipway.training.task import Estimator, Parameters, Task, parse_parameters
from slipway_contract.registry import Tag
from slipway_contract.signature import Signature
from slipway_contract.v2 import parse_request
from slipway_jobs.datasets.sources import load
from slipway_jobs.promotion.evaluation import evaluate, fetch
from slipway_jobs.settings import Settings
from slipway_jobs.training.training import train

from tests.jobs.conftest import REVISION, Trainer
from tests.jobs.tables import PATIENT
from tests.support.http_server import modifying_proxy


@pytest.fixture(scope="session")
def client(mlflow_url: str) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_url, registry_uri=mlflow_url)


@pytest.fixture(params=["heart", "digits"])
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def stored(result: dict[str, Any], tracking: Tracking, tmp_path: Path) -> Path:
    folder, _ = fetch(tracking.version(result["model"], result["version"]), tracking, tmp_path)
    return folder


@pytest.mark.slow
def test_the_version_has_tags_of_its_origin(result: dict[str, Any], client: MlflowClient) -> None:
    tags = client.get_model_version(result["model"], result["version"]).tags
    entry = declared_dataset(result["dataset"])
    assert tags[Tag.DATASET] == entry.name
    assert tags[Tag.DATASET_LICENCE] == entry.licence
    assert tags[Tag.DATASET_SOURCE] == entry.source
    assert tags[Tag.DATASET_DIGEST].startswith("sha256:")
    assert tags[Tag.GIT_REVISION] == REVISION
    assert tags[Tag.IMAGE] == "registry.example/slipway-jobs@sha256:0"
    assert tags[Tag.FORMAT] == "onnx"
    assert tags[Tag.DIGEST] == result["digest"]


def test_the_run_has_parameters_dataset_and_each_score_with_its_baseline(
    result: dict[str, Any], client: MlflowClient
) -> None:
    run = client.get_run(result["runId"])
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "0"
    assert run.inputs
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == result["dataset"]
    for metric in declared_task(result["model"]).metrics:
        assert run.data.metrics[f"test_{metric.name}"] == pytest.approx(
            result["metrics"][metric.name]
        )
        assert (
            metric.direction.gain(
                run.data.metrics[f"test_{metric.name}"], run.data.metrics[f"baseline_{metric.name}"]
            )
            > 0
        )
        assert f"cv_mean_{metric.name}" in run.data.metrics
        assert f"cv_std_{metric.name}" in run.data.metrics
    assert run.data.metrics["parity_max_difference"] < 1e-4
    assert run.data.tags["mlflow.note.content"].startswith(
        f"# {declared_task(result['model']).title}"
    )
    assert run.outputs
    (model,) = run.outputs.model_outputs
    assert client.get_logged_model(model.model_id).status == "READY"


def test_the_artifact_has_every_file_and_its_manifest_lists_them(stored: Path) -> None:
    files = {path.relative_to(stored).as_posix() for path in stored.rglob("*") if path.is_file()}
    assert files >= {
        "MLmodel", "model.onnx", "signature.json", "input_example.json", "reference.json",
        "model_card.md",
        "provenance.json", "manifest.json",
    }  # fmt: skip
    manifest = json.loads((stored / "manifest.json").read_bytes())
    assert {entry["path"] for entry in manifest["files"]} == files - {"manifest.json"}


def test_the_example_is_a_valid_request_of_the_graph(stored: Path) -> None:
    signature = Signature.model_validate_json((stored / "signature.json").read_bytes())
    request = parse_request((stored / "input_example.json").read_bytes())
    assert signature.check(request.inputs) == 1
    feeds = {t.name: np.array(t.data, dtype=np.float32).reshape(1, -1) for t in request.inputs}
    outputs = run_onnx((stored / "model.onnx").read_bytes(), feeds)
    assert list(outputs) == [column.name for column in signature.outputs]


def test_the_reference_is_of_the_training_rows_alone(
    stored: Path, result: dict[str, Any], settings: Settings
) -> None:
    reference = Reference.model_validate_json((stored / "reference.json").read_bytes())
    task, entry = declared_task(result["model"]), declared_dataset(result["dataset"])
    split = task.split.hold_out(load(entry, settings), task.target, entry.subject)
    assert reference.rows == len(split.train)
    for position, column in enumerate(reference.columns):
        values = split.train.features[:, position]
        assert column.rows == np.isfinite(values).sum()
        assert column.missing == np.isnan(values).sum()
        assert np.dot(column.values, column.counts) == pytest.approx(
            np.nansum(values, dtype=np.float64)
        )


def test_the_provenance_names_run_data_and_split(stored: Path, result: dict[str, Any]) -> None:
    provenance = json.loads((stored / "provenance.json").read_bytes())
    assert provenance["runId"] == result["runId"]
    assert provenance["dataset"]["name"] == result["dataset"]
    assert provenance["gitRevision"] == REVISION
    assert "held out" in provenance["split"]["rule"]


def test_the_card_states_the_limits_of_the_split(
    digits: dict[str, Any], tracking: Tracking, tmp_path: Path
) -> None:
    folder, _ = fetch(tracking.version("digits", digits["version"]), tracking, tmp_path)
    assert "does not name the writers" in (folder / "model_card.md").read_text()


def test_synthetic_data_is_marked_everywhere(
    own_heart: Task, trained: Trainer, client: MlflowClient
) -> None:
    result = trained(own_heart, dataset="heart-synthetic", C="0.1", folds="2")
    version = client.get_model_version(own_heart.name, result["version"])
    run = client.get_run(result["runId"])
    assert result["synthetic"] is True
    assert "synthetic" in version.tags[Tag.DATASET]
    assert "synthetic" in str(version.description)
    assert run.inputs
    assert "synthetic" in run.inputs.dataset_inputs[0].dataset.name
    assert "SYNTHETIC" in run.data.tags["mlflow.note.content"]


def test_mlflow_loads_the_version_by_name(
    result: dict[str, Any], mlflow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    graph = mlflow.onnx.load_model(f"models:/{result['model']}/{result['version']}")
    assert graph.graph.output[0].name == "label"


def test_a_patient_with_disease_has_a_high_probability(
    heart: dict[str, Any], tracking: Tracking, tmp_path: Path, settings: Settings
) -> None:
    folder, _ = fetch(tracking.version("heart", heart["version"]), tracking, tmp_path)
    feeds = declared_task("heart").feeds(np.array([PATIENT], dtype=np.float32))
    outputs = run_onnx((folder / "model.onnx").read_bytes(), feeds)
    assert outputs["probability"][0] > 0.8
    assert outputs["label"][0] == 1
    assert heart["metrics"]["auc"] > 0.85
    assert settings.data is None or heart["dataset"] == "heart-cleveland"


def test_digits_beat_their_baseline_by_far(digits: dict[str, Any]) -> None:
    assert digits["metrics"]["accuracy"] > 0.95 > 0.2 > digits["baseline"]["accuracy"]


def test_an_evaluation_finds_the_scores_of_the_training(
    result: dict[str, Any], settings: Settings, tracking: Tracking, client: MlflowClient
) -> None:
    version = tracking.version(result["model"], result["version"])
    found = evaluate(declared_task(result["model"]), version, settings, tracking)
    assert found["metrics"] == pytest.approx(result["metrics"], abs=1e-4)
    assert found["baseline"] == pytest.approx(result["baseline"])
    name, value = next(iter(found["metrics"].items()))
    assert client.get_run(result["runId"]).data.metrics[f"evaluate_{name}"] == pytest.approx(value)
    tags = client.get_model_version(result["model"], result["version"]).tags
    assert float(tags[f"slipway.evaluation.{name}"]) == pytest.approx(value)


def test_an_evaluation_on_other_data_is_refused(
    own_heart: Task, trained: Trainer, settings: Settings, tracking: Tracking
) -> None:
    result = trained(own_heart, dataset="heart-synthetic", C="0.1", folds="2")
    version = tracking.version(own_heart.name, result["version"])
    changed = replace(version, tags={**version.tags, Tag.DATASET_DIGEST: "sha256:" + "0" * 64})
    with pytest.raises(
        WrongDigest, match="was trained on heart-synthetic with the digest sha256:0000"
    ):
        evaluate(own_heart, changed, settings, tracking)


def versions(client: MlflowClient, name: str) -> Sequence[object]:
    try:
        client.get_registered_model(name)
    except RestException:
        return []
    return list(client.search_model_versions(f"name='{name}'"))


def last_run(client: MlflowClient, name: str) -> Any:
    experiment = client.get_experiment_by_name(f"training-{name}")
    assert experiment
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[
        0
    ]


def test_a_failing_run_is_marked_failed_and_registers_nothing(
    own_heart: Task, settings: Settings, tracking: Tracking, client: MlflowClient
) -> None:
    def cannot_take_missing_values(_: Parameters) -> Mapping[str, Estimator]:
        return {"bare": LogisticRegression()}

    task = replace(own_heart, estimators=cannot_take_missing_values)
    with pytest.raises(WrongParameter, match=r"cannot be fitted on .*contains NaN"):
        train(task, parse_parameters(task, {}), settings, tracking)
    assert last_run(client, task.name).info.status == "FAILED"
    assert versions(client, task.name) == []


def test_a_run_that_is_interrupted_is_killed(tracking: Tracking, client: MlflowClient) -> None:
    with pytest.raises(SystemExit), tracking.run("interrupted", "run", {}) as run:
        raise SystemExit(143)
    assert client.get_run(run.id).info.status == "KILLED"


def test_a_byte_that_changes_during_the_upload_fails_the_run(
    own_heart: Task, settings: Settings, mlflow_url: str, client: MlflowClient
) -> None:
    def modify(method: str, path: str, body: bytes) -> bytes:
        return body[:-1] + b"\x00" if method == "PUT" and path.endswith("reference.json") else body

    with (
        modifying_proxy(mlflow_url, modify) as url,
        pytest.raises(WrongDigest, match=r"reference.json is not what manifest"),
    ):
        train(
            own_heart,
            parse_parameters(own_heart, {"C": "0.1", "folds": "2"}),
            settings,
            Tracking(url),
        )
    assert last_run(client, own_heart.name).info.status == "FAILED"
    assert versions(client, own_heart.name) == []


@pytest.mark.parametrize("file", ["model.onnx", "signature.json", "manifest.json"])
def test_a_wrong_byte_in_the_artifact_is_refused_by_name(
    stored: Path, result: dict[str, Any], file: str
) -> None:
    content = (stored / file).read_bytes()
    (stored / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WrongDigest, match=file):
        artifact.check(stored, result["digest"])


def test_a_file_that_the_manifest_does_not_list_is_refused_by_name(
    stored: Path, result: dict[str, Any]
) -> None:
    (stored / "extra.pkl").write_bytes(b"")
    with pytest.raises(WrongDigest, match=r"extra\.pkl"):
        artifact.check(stored, result["digest"])
