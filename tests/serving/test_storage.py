"""The storage initializer with a real MLflow tracking server."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from mlserver.settings import ModelSettings
from slipway_contract.registry import ArtifactFormat, ArtifactManifest, StorageUri, digest_of
from slipway_serving.errors import Refused
from slipway_serving.mlflow_registry import MlflowRegistry
from slipway_serving.package_signature import TrustedKeys
from slipway_serving.settings import StorageSettings
from slipway_serving.storage import fetch

from tests.serving.artifacts import Fitted, write_artifact, write_manifest
from tests.serving.keys import KEY
from tests.serving.tracking_server import TrackingServer, uri_of
from tests.support.processes import free_port
from tests.support.waiting import SECONDS

PROGRAM = Path(sys.executable).with_name("slipway-storage-initializer")
Tamper = Callable[[Path], object]


def get(
    mlflow: TrackingServer, uri: str, dest: Path, trusted: TrustedKeys | None = None
) -> ArtifactManifest:
    settings = StorageSettings(tracking_uri=mlflow.url, attempts=1)
    with httpx.Client(timeout=SECONDS) as client:
        return fetch(
            StorageUri.parse(uri),
            dest,
            MlflowRegistry(settings, client),
            settings.size_limit,
            trusted,
        )


def refusal(
    mlflow: TrackingServer, uri: str, dest: Path, trusted: TrustedKeys | None = None
) -> str:
    """Return the one-line reason of a rejected artifact; the folder is left empty."""
    with pytest.raises(Refused) as caught:
        get(mlflow, uri, dest, trusted)
    assert not dest.exists() or list(dest.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_the_converted_artifact_of_an_adopted_version_is_downloaded(
    mlflow: TrackingServer, artifact: Path, dest: Path, tmp_path: Path
) -> None:
    manifest = write_manifest(artifact)
    (tmp_path / "logged").mkdir()
    (tmp_path / "logged/MLmodel").write_text("flavors: {onnx: {}}")
    version = mlflow.adopt("adopted", tmp_path / "logged", artifact)
    get(mlflow, uri_of("adopted", version, manifest), dest)
    assert (dest / "model.onnx").read_bytes() == (artifact / "model.onnx").read_bytes()


def test_a_registered_version_is_downloaded_completely_with_model_settings(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    (artifact / "extra").mkdir()
    (artifact / "extra/notes ü.txt").write_text("a name to be quoted")
    manifest = write_manifest(artifact)
    version, _ = mlflow.register("whole", artifact)
    get(mlflow, uri_of("whole", version, manifest), dest)
    for entry in manifest.files:
        assert (dest / entry.path).read_bytes() == (artifact / entry.path).read_bytes()
    assert json.loads((dest / "model-settings.json").read_text()) == {
        "implementation": "slipway_serving.model.SlipwayModel",
        "parameters": {
            "version": version,
            "extra": {"registeredModel": "whole", "digest": manifest.digest, "format": "onnx"},
        },
    }


def test_a_runtime_of_another_format_chooses_the_class_that_loads_the_files(
    mlflow: TrackingServer, artifact: Path, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_manifest(artifact)
    version, _ = mlflow.register("other-format", artifact)
    uri = f"{uri_of('other-format', version, manifest)}&implementation=none"
    for _ in range(2):
        get(mlflow, uri, dest)
    monkeypatch.setenv("MLSERVER_MODEL_NAME", "other-format-1")  # as KServe sets it
    monkeypatch.setenv("MLSERVER_MODEL_IMPLEMENTATION", "mlserver.model.MLModel")
    settings = ModelSettings.parse_file(str(dest / "model-settings.json"))
    assert settings.name == "other-format-1"
    assert settings.implementation_ == "mlserver.model.MLModel"
    assert settings.parameters
    assert settings.parameters.version == version


def test_a_version_of_a_run_is_downloaded(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    version = mlflow.register_from_run("of-a-run", artifact)
    get(mlflow, uri_of("of-a-run", version, write_manifest(artifact)), dest)
    assert (dest / "model.onnx").is_file()


def test_a_second_try_replaces_the_files_of_the_first(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    version, _ = mlflow.register("again", artifact)
    (dest / ".incoming").mkdir(parents=True)
    (dest / "half.bin").write_bytes(b"of an earlier try")
    for _ in range(2):
        get(mlflow, uri_of("again", version, write_manifest(artifact)), dest)
        assert not (dest / "half.bin").exists()
        assert not (dest / ".incoming").exists()


def test_a_folder_with_other_files_is_unchanged(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    dest.mkdir()
    (dest / "thesis.tex").write_text("not ours")
    version, _ = mlflow.register("other", artifact)
    with pytest.raises(Refused, match="is not empty"):
        get(mlflow, uri_of("other", version, write_manifest(artifact)), dest)
    assert (dest / "thesis.tex").read_text() == "not ours"


def test_settings_files_of_the_artifact_are_not_used(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    (artifact / "deeper").mkdir()
    for path in ("model-settings.json", "settings.json", "deeper/model-settings.json"):
        (artifact / path).write_text('{"implementation": "os.system"}')
    manifest = write_manifest(artifact)
    version, _ = mlflow.register("own-settings", artifact)
    get(mlflow, uri_of("own-settings", version, manifest), dest)
    assert "slipway_serving" in (dest / "model-settings.json").read_text()
    assert not (dest / "settings.json").exists()
    assert not (dest / "deeper/model-settings.json").exists()


def flip_a_byte(root: Path) -> None:
    content = bytearray((root / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (root / "model.onnx").write_bytes(content)


def truncate(root: Path) -> None:
    (root / "model.onnx").write_bytes((root / "model.onnx").read_bytes()[:-10])


def lengthen(root: Path) -> None:
    (root / "model.onnx").write_bytes((root / "model.onnx").read_bytes() + b"more")


def add_a_file(root: Path) -> None:
    (root / "sitecustomize.py").write_text("import os")


def add_a_hidden_file(root: Path) -> None:
    (root / "code").mkdir()
    (root / "code/.hidden").write_text("")


def change_the_manifest(root: Path) -> None:
    (root / "manifest.json").write_bytes((root / "manifest.json").read_bytes() + b" ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (flip_a_byte, "model.onnx: digest mismatch"),
        (truncate, "model.onnx has"),
        (lengthen, "model.onnx is larger than"),
        (add_a_file, "sitecustomize.py is in the store but not listed"),
        (add_a_hidden_file, "code/.hidden is in the store but not listed"),
        (change_the_manifest, "manifest.json: digest mismatch"),
        (lambda root: (root / "manifest.json").unlink(), "has no manifest.json"),
        (
            lambda root: (root / "signature.json").unlink(),
            "signature.json is listed in manifest.json but not in the store",
        ),
    ],
)
def test_a_changed_store_is_refused_with_the_name_of_the_file(
    mlflow: TrackingServer, artifact: Path, dest: Path, tamper: Tamper, reason: str
) -> None:
    version, root = mlflow.register("tampered", artifact)
    uri = uri_of("tampered", version, write_manifest(artifact))
    get(mlflow, uri, dest)
    tamper(root)
    assert reason in refusal(mlflow, uri, dest)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../escaped.txt", "'../escaped.txt' is not a plain relative path"),
        ("/etc/passwd", "'/etc/passwd' is not a plain relative path"),
        ("a/../../b", "is not a plain relative path"),
        ("./model.onnx", "is not a plain relative path"),
        ("a\\b", "is not a plain relative path"),
        (
            "link -> /etc/passwd",
            "link -> /etc/passwd is listed in manifest.json but not in the store",
        ),
        ("line\nbreak", "has characters that cannot be printed"),
        ("model.onnx/inside", "model.onnx/inside is listed in manifest.json but not in the store"),
    ],
)
def test_a_manifest_with_an_invalid_path_is_refused(
    mlflow: TrackingServer, artifact: Path, dest: Path, path: str, reason: str
) -> None:
    content = json.loads((artifact / "manifest.json").read_text())
    content["files"].append({"path": path, "size": 1, "sha256": "0" * 64})
    (artifact / "manifest.json").write_text(json.dumps(content))
    pin = digest_of((artifact / "manifest.json").read_bytes()).removeprefix("sha256:")
    version, _ = mlflow.register("elsewhere", artifact)
    assert reason in refusal(mlflow, f"mlflow://elsewhere/{version}?sha256={pin}", dest)


@pytest.mark.parametrize(
    "name", ["helper.pkl", "weights.PT", "data.pickle.gz", "table.npy", "second.joblib"]
)
def test_a_pickle_is_refused_by_its_name(
    mlflow: TrackingServer, artifact: Path, dest: Path, name: str
) -> None:
    (artifact / name).write_bytes(b"anything")
    manifest = write_manifest(artifact)
    version, _ = mlflow.register("named-pickle", artifact)
    assert f"{name} is a pickle" in refusal(mlflow, uri_of("named-pickle", version, manifest), dest)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_by_its_content(
    mlflow: TrackingServer, artifact: Path, dest: Path, protocol: int
) -> None:
    (artifact / "model.onnx").write_bytes(pickle.dumps(os.getcwd, protocol=protocol))
    manifest = write_manifest(artifact)
    version, _ = mlflow.register("dressed-up", artifact)
    assert "model.onnx is a pickle" in refusal(
        mlflow, uri_of("dressed-up", version, manifest), dest
    )


def test_a_joblib_model_needs_the_opt_in_of_the_model(
    mlflow: TrackingServer, tmp_path: Path, patients: Fitted, dest: Path
) -> None:
    manifest = write_artifact(tmp_path / "joblib", patients, ArtifactFormat.JOBLIB)
    version, root = mlflow.register("of-old", tmp_path / "joblib")
    uri = uri_of("of-old", version, manifest)
    assert "the Model does not allow joblib" in refusal(mlflow, uri, dest)
    get(mlflow, f"{uri}&allow=joblib", dest)
    assert (dest / "model.joblib").is_file()
    (root / "model.joblib").write_bytes((root / "model.joblib").read_bytes()[:-1] + b"!")
    assert "model.joblib: digest mismatch" in refusal(mlflow, f"{uri}&allow=joblib", dest)


def test_the_opt_in_does_not_apply_to_other_pickles(
    mlflow: TrackingServer, tmp_path: Path, patients: Fitted, dest: Path
) -> None:
    write_artifact(tmp_path / "joblib", patients, ArtifactFormat.JOBLIB)
    (tmp_path / "joblib/readme.txt").write_bytes(pickle.dumps(os.getcwd))
    manifest = write_manifest(tmp_path / "joblib", ArtifactFormat.JOBLIB)
    version, _ = mlflow.register("of-old-and-more", tmp_path / "joblib")
    uri = uri_of("of-old-and-more", version, manifest, "&allow=joblib")
    assert "readme.txt is a pickle" in refusal(mlflow, uri, dest)


def test_a_skops_model_is_downloaded(
    mlflow: TrackingServer, tmp_path: Path, patients: Fitted, dest: Path
) -> None:
    manifest = write_artifact(tmp_path / "skops", patients, ArtifactFormat.SKOPS)
    version, _ = mlflow.register("skops", tmp_path / "skops")
    get(mlflow, uri_of("skops", version, manifest), dest)
    assert (dest / "model.skops").is_file()


def test_a_model_that_does_not_match_its_signature_is_refused(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    signature = (artifact / "signature.json").read_text().replace('"age"', '"years"')
    (artifact / "signature.json").write_text(signature)
    manifest = write_manifest(artifact)
    version, _ = mlflow.register("misfit", artifact)
    reason = refusal(mlflow, uri_of("misfit", version, manifest), dest)
    assert reason == "model.onnx: the graph has no input 'years'; it has age, thal, chol"


def test_a_missing_version_is_reported(mlflow: TrackingServer, artifact: Path, dest: Path) -> None:
    mlflow.register("lonely", artifact)
    assert "lonely version 99 is not in MLflow at" in refusal(
        mlflow, f"mlflow://lonely/99?sha256={'0' * 64}", dest
    )
    assert "missing version 1 is not in MLflow at" in refusal(
        mlflow, f"mlflow://missing/1?sha256={'0' * 64}", dest
    )


def test_an_artifact_over_the_limit_is_not_downloaded(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    version, _ = mlflow.register("large", artifact)
    settings = StorageSettings(tracking_uri=mlflow.url)
    uri = StorageUri.parse(uri_of("large", version, write_manifest(artifact)))
    with (
        httpx.Client(timeout=SECONDS) as client,
        pytest.raises(Refused, match="at most 1000 are accepted"),
    ):
        fetch(uri, dest, MlflowRegistry(settings, client), size_limit=1000, trusted=None)
    assert list(dest.iterdir()) == []


def run(
    dest: Path, uri: str, tracking_uri: str, log: Path, trusted: str
) -> "subprocess.CompletedProcess[str]":
    environment = {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "SLIPWAY_TERMINATION_LOG": str(log),
        "SLIPWAY_STORAGE_ATTEMPTS": "2",
        "SLIPWAY_STORAGE_BACKOFF": "0.01",
        "SLIPWAY_STORAGE_TRUSTED_KEYS": trusted,
    }
    return subprocess.run(
        [PROGRAM, uri, dest],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.slow
def test_the_program_ends_with_0_and_a_filled_folder(
    mlflow: TrackingServer, artifact: Path, dest: Path, tmp_path: Path
) -> None:
    KEY.sign(artifact, "program")
    version, _ = mlflow.register("program", artifact)
    ended = run(
        dest,
        uri_of("program", version, write_manifest(artifact)),
        mlflow.url,
        tmp_path / "log",
        KEY.public,
    )
    assert ended.returncode == 0, ended.stderr
    assert (dest / "model-settings.json").is_file()
    assert not (tmp_path / "log").exists()


def test_the_program_reports_a_one_line_reason_and_ends_with_3(
    mlflow: TrackingServer, artifact: Path, dest: Path, tmp_path: Path
) -> None:
    KEY.sign(artifact, "wrong")
    version, root = mlflow.register("wrong", artifact)
    flip_a_byte(root)
    ended = run(
        dest,
        uri_of("wrong", version, write_manifest(artifact)),
        mlflow.url,
        tmp_path / "log",
        KEY.public,
    )
    assert ended.returncode == 3
    assert (tmp_path / "log").read_text() == ended.stderr.splitlines(keepends=True)[-1]
    assert ended.stderr.splitlines()[-1].startswith("model.onnx: digest mismatch")
    assert list(dest.iterdir()) == []


@pytest.mark.slow
def test_an_unreachable_mlflow_is_reported(dest: Path, tmp_path: Path) -> None:
    unreachable = f"http://127.0.0.1:{free_port()}"
    ended = run(
        dest, f"mlflow://heart/1?sha256={'0' * 64}", unreachable, tmp_path / "log", KEY.public
    )
    assert ended.returncode == 3
    assert (
        (tmp_path / "log")
        .read_text()
        .startswith(f"MLflow at {unreachable} does not respond after 2 tries: ")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/model",
        "mlflow://heart/3",
        "mlflow://heart/latest?sha256=" + "0" * 64,
        "mlflow://",
    ],
)
def test_a_uri_without_a_pinned_version_is_refused(dest: Path, tmp_path: Path, uri: str) -> None:
    ended = run(dest, uri, "http://127.0.0.1:1", tmp_path / "log", KEY.public)
    assert ended.returncode == 3
    assert (tmp_path / "log").read_text().count("\n") == 1


@pytest.mark.slow
def test_a_missing_setting_is_reported_by_its_variable(dest: Path) -> None:
    ended = subprocess.run(
        [PROGRAM, "mlflow://a/1", dest],
        env={},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "set MLFLOW_TRACKING_URI: Field required\n"
