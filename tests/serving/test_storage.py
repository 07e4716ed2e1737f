"""The storage initializer against a real MLflow tracking server."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from slipway_contract.registry import ArtifactFormat, ArtifactManifest, StorageUri, digest_of
from slipway_serving.errors import Refused
from slipway_serving.mlflow_registry import MlflowRegistry
from slipway_serving.package_signature import TrustedKeys
from slipway_serving.settings import StorageSettings
from slipway_serving.storage import fetch

from tests.serving.artifacts import Fitted, write_artifact, write_manifest
from tests.serving.keys import KEY
from tests.serving.tracking_server import TrackingServer, free_port, uri_of

PROGRAM = Path(sys.executable).with_name("slipway-storage-initializer")
Tamper = Callable[[Path], object]


def get(
    mlflow: TrackingServer, uri: str, dest: Path, trusted: TrustedKeys | None = None
) -> ArtifactManifest:
    settings = StorageSettings(tracking_uri=mlflow.url, attempts=1)
    with httpx.Client(timeout=20) as client:
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
    """Why it was refused, in one line, with nothing left behind."""
    with pytest.raises(Refused) as caught:
        get(mlflow, uri, dest, trusted)
    assert not dest.exists() or list(dest.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_of_an_adopted_version_the_artifact_made_of_it_arrives(
    mlflow: TrackingServer, artifact: Path, dest: Path, tmp_path: Path
) -> None:
    manifest = write_manifest(artifact)
    (tmp_path / "logged").mkdir()
    (tmp_path / "logged/MLmodel").write_text("flavors: {onnx: {}}")
    version = mlflow.adopt("adopted", tmp_path / "logged", artifact)
    get(mlflow, uri_of("adopted", version, manifest), dest)
    assert (dest / "model.onnx").read_bytes() == (artifact / "model.onnx").read_bytes()


def test_a_registered_version_arrives_whole_and_with_settings_of_ours(
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


def test_a_version_that_a_run_logged_arrives_too(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    version = mlflow.register_from_run("of-a-run", artifact)
    get(mlflow, uri_of("of-a-run", version, write_manifest(artifact)), dest)
    assert (dest / "model.onnx").is_file()


def test_a_second_try_replaces_what_the_first_left(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    version, _ = mlflow.register("again", artifact)
    (dest / ".incoming").mkdir(parents=True)
    (dest / "half.bin").write_bytes(b"of an earlier try")
    for _ in range(2):
        get(mlflow, uri_of("again", version, write_manifest(artifact)), dest)
        assert not (dest / "half.bin").exists()
        assert not (dest / ".incoming").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    dest.mkdir()
    (dest / "thesis.tex").write_text("not ours")
    version, _ = mlflow.register("foreign", artifact)
    with pytest.raises(Refused, match="is not empty"):
        get(mlflow, uri_of("foreign", version, write_manifest(artifact)), dest)
    assert (dest / "thesis.tex").read_text() == "not ours"


def test_the_artifacts_own_settings_are_never_used(
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


@pytest.mark.parametrize(
    ("tamper", "said"),
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
def test_a_store_that_was_tampered_with_is_refused_by_the_files_name(
    mlflow: TrackingServer, artifact: Path, dest: Path, tamper: Tamper, said: str
) -> None:
    version, root = mlflow.register("tampered", artifact)
    uri = uri_of("tampered", version, write_manifest(artifact))
    get(mlflow, uri, dest)
    tamper(root)
    assert said in refusal(mlflow, uri, dest)


@pytest.mark.parametrize(
    ("path", "said"),
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
def test_a_manifest_that_leads_elsewhere_is_refused(
    mlflow: TrackingServer, artifact: Path, dest: Path, path: str, said: str
) -> None:
    content = json.loads((artifact / "manifest.json").read_text())
    content["files"].append({"path": path, "size": 1, "sha256": "0" * 64})
    (artifact / "manifest.json").write_text(json.dumps(content))
    pin = digest_of((artifact / "manifest.json").read_bytes()).removeprefix("sha256:")
    version, _ = mlflow.register("elsewhere", artifact)
    assert said in refusal(mlflow, f"mlflow://elsewhere/{version}?sha256={pin}", dest)


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


def test_a_joblib_model_needs_the_models_consent(
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


def test_consent_to_the_model_file_is_not_consent_to_other_pickles(
    mlflow: TrackingServer, tmp_path: Path, patients: Fitted, dest: Path
) -> None:
    write_artifact(tmp_path / "joblib", patients, ArtifactFormat.JOBLIB)
    (tmp_path / "joblib/readme.txt").write_bytes(pickle.dumps(os.getcwd))
    manifest = write_manifest(tmp_path / "joblib", ArtifactFormat.JOBLIB)
    version, _ = mlflow.register("of-old-and-more", tmp_path / "joblib")
    uri = uri_of("of-old-and-more", version, manifest, "&allow=joblib")
    assert "readme.txt is a pickle" in refusal(mlflow, uri, dest)


def test_a_skops_model_arrives_loadable(
    mlflow: TrackingServer, tmp_path: Path, patients: Fitted, dest: Path
) -> None:
    manifest = write_artifact(tmp_path / "skops", patients, ArtifactFormat.SKOPS)
    version, _ = mlflow.register("skops", tmp_path / "skops")
    get(mlflow, uri_of("skops", version, manifest), dest)
    assert (dest / "model.skops").is_file()


def test_a_model_that_does_not_fit_its_signature_is_refused_here_already(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    signature = (artifact / "signature.json").read_text().replace('"age"', '"years"')
    (artifact / "signature.json").write_text(signature)
    manifest = write_manifest(artifact)
    version, _ = mlflow.register("misfit", artifact)
    said = refusal(mlflow, uri_of("misfit", version, manifest), dest)
    assert said == "model.onnx: the graph has no input 'years'; it has age, thal, chol"


def test_a_version_that_is_not_there_is_named(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    mlflow.register("lonely", artifact)
    assert "lonely version 99 is not in MLflow at" in refusal(
        mlflow, f"mlflow://lonely/99?sha256={'0' * 64}", dest
    )
    assert "nobody version 1 is not in MLflow at" in refusal(
        mlflow, f"mlflow://nobody/1?sha256={'0' * 64}", dest
    )


def test_an_artifact_larger_than_the_limit_is_not_fetched(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    version, _ = mlflow.register("large", artifact)
    settings = StorageSettings(tracking_uri=mlflow.url)
    uri = StorageUri.parse(uri_of("large", version, write_manifest(artifact)))
    with httpx.Client() as client, pytest.raises(Refused, match="at most 1000 are accepted"):
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
        timeout=60,
        check=False,
    )


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


def test_the_program_says_what_is_wrong_in_one_line_and_ends_with_3(
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


def test_an_mlflow_that_does_not_answer_is_named(dest: Path, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    ended = run(dest, f"mlflow://heart/1?sha256={'0' * 64}", nobody, tmp_path / "log", KEY.public)
    assert ended.returncode == 3
    assert (
        (tmp_path / "log")
        .read_text()
        .startswith(f"MLflow at {nobody} does not respond after 2 tries: ")
    )


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/model",
        "mlflow://heart/3",
        "mlflow://heart/latest?sha256=" + "0" * 64,
        "mlflow://",
    ],
)
def test_a_uri_that_pins_nothing_is_refused(dest: Path, tmp_path: Path, uri: str) -> None:
    ended = run(dest, uri, "http://127.0.0.1:1", tmp_path / "log", KEY.public)
    assert ended.returncode == 3
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_a_missing_setting_is_named(dest: Path) -> None:
    ended = subprocess.run(
        [PROGRAM, "mlflow://a/1", dest],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "set MLFLOW_TRACKING_URI: Field required\n"
