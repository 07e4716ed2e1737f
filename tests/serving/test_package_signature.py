"""Signatures of artifacts, in a real MLflow tracking server."""

import base64
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from slipway_contract.registry import ArtifactManifest
from slipway_serving.errors import Refused
from slipway_serving.package_signature import TrustedKeys

from tests.serving.artifacts import write_manifest
from tests.serving.keys import KEY, UNTRUSTED
from tests.serving.test_storage import get, refusal, run
from tests.serving.tracking_server import TrackingServer, uri_of

TRUSTED = TrustedKeys(KEY.public)


def registered(mlflow: TrackingServer, artifact: Path, name: str) -> str:
    """Register the folder and return its storage URI."""
    manifest = ArtifactManifest.model_validate_json((artifact / "manifest.json").read_bytes())
    return uri_of(name, mlflow.register(name, artifact)[0], manifest)


@pytest.mark.slow
def test_a_signed_version_is_downloaded(mlflow: TrackingServer, artifact: Path, dest: Path) -> None:
    KEY.sign(artifact, "signed")
    get(mlflow, registered(mlflow, artifact, "signed"), dest, TRUSTED)
    assert (dest / "model.onnx").is_file()
    assert not (dest / "manifest.sig").exists()


def test_an_unsigned_version_is_refused_unless_signatures_are_optional(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    uri = registered(mlflow, artifact, "unsigned")
    assert (
        refusal(mlflow, uri, dest, TRUSTED)
        == "manifest.sig: is missing; unsigned version 1 is not signed; run python -m slipway_jobs "
        "sign unsigned 1, or train it again by a Job of the platform"
    )
    get(mlflow, uri, dest, None)


def test_an_untrusted_key_is_refused_by_its_fingerprint(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    UNTRUSTED.sign(artifact, "untrusted-key")
    hint = json.loads((artifact / "manifest.sig").read_bytes())["verificationMaterial"][
        "publicKey"
    ]["hint"]
    reason = refusal(mlflow, registered(mlflow, artifact, "untrusted-key"), dest, TRUSTED)
    assert reason == f"manifest.sig: signed by the key {hint}, which is not trusted here"


def test_an_untrusted_key_with_the_hint_of_a_trusted_one_is_refused(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    UNTRUSTED.sign(artifact, "disguised")
    forged = json.loads((artifact / "manifest.sig").read_bytes())
    KEY.sign(artifact, "disguised")
    forged["verificationMaterial"] = json.loads((artifact / "manifest.sig").read_bytes())[
        "verificationMaterial"
    ]
    (artifact / "manifest.sig").write_text(json.dumps(forged))
    reason = refusal(mlflow, registered(mlflow, artifact, "disguised"), dest, TRUSTED)
    assert (
        reason == "manifest.sig: is not a signature of this manifest.json for the model disguised"
    )


def test_an_artifact_that_was_changed_and_pinned_again_is_refused(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    KEY.sign(artifact, "tampered-again")
    (artifact / "provenance.json").write_text('{"runId": "of another run"}')
    write_manifest(artifact)
    reason = refusal(mlflow, registered(mlflow, artifact, "tampered-again"), dest, TRUSTED)
    assert (
        reason
        == "manifest.sig: is not a signature of this manifest.json for the model tampered-again"
    )


def test_the_signature_of_another_model_is_refused(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    KEY.sign(artifact, "weather")
    reason = refusal(mlflow, registered(mlflow, artifact, "patients"), dest, TRUSTED)
    assert reason == "manifest.sig: is not a signature of this manifest.json for the model patients"


def test_a_changed_byte_is_refused_although_the_manifest_is_signed(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    KEY.sign(artifact, "changed")
    version, root = mlflow.register("changed", artifact)
    content = (root / "model.onnx").read_bytes()
    (root / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    uri = uri_of(
        "changed",
        version,
        ArtifactManifest.model_validate_json((artifact / "manifest.json").read_bytes()),
    )
    assert "model.onnx: digest mismatch" in refusal(mlflow, uri, dest, TRUSTED)


def test_a_signed_pickle_is_refused(mlflow: TrackingServer, artifact: Path, dest: Path) -> None:
    (artifact / "model.onnx").write_bytes(pickle.dumps(os.getcwd))
    write_manifest(artifact)
    KEY.sign(artifact, "signed-pickle")
    reason = refusal(mlflow, registered(mlflow, artifact, "signed-pickle"), dest, TRUSTED)
    assert reason == "model.onnx is a pickle, which could run any code; it is not accepted"


@pytest.mark.parametrize(
    "trusted", [UNTRUSTED.public + KEY.public, KEY.certificate + "\n" + UNTRUSTED.certificate]
)
def test_each_of_several_trusted_keys_is_accepted(
    mlflow: TrackingServer, artifact: Path, dest: Path, trusted: str
) -> None:
    for key in (KEY, UNTRUSTED):
        key.sign(artifact, "rotated")
        get(mlflow, registered(mlflow, artifact, "rotated"), dest, TrustedKeys(trusted))


def without_payload(package_signature: dict[str, dict[str, object]]) -> None:
    package_signature["dsseEnvelope"]["payload"] = ""


def without_signatures(package_signature: dict[str, dict[str, object]]) -> None:
    package_signature["dsseEnvelope"]["signatures"] = []


def of_another_kind(package_signature: dict[str, dict[str, object]]) -> None:
    package_signature["dsseEnvelope"]["payload"] = base64.b64encode(b'{"_type": "x"}').decode()


@pytest.mark.parametrize(
    "damage",
    [
        without_payload,
        without_signatures,
        of_another_kind,
        lambda package_signature: package_signature.pop("dsseEnvelope"),
    ],
)
def test_a_damaged_signature_is_refused(
    artifact: Path, damage: Callable[[dict[str, dict[str, object]]], object]
) -> None:
    KEY.sign(artifact, "damaged")
    package_signature = json.loads((artifact / "manifest.sig").read_bytes())
    damage(package_signature)
    with pytest.raises(Refused, match="is not a signature of this"):
        TRUSTED.check(
            "damaged",
            (artifact / "manifest.json").read_bytes(),
            json.dumps(package_signature).encode(),
        )


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"verificationMaterial": 1}', b"[" * 100_000]
)
def test_an_invalid_signature_is_refused(content: bytes) -> None:
    with pytest.raises(Refused, match=r"manifest\.sig: is not a signature as"):
        TRUSTED.check("any", b"{}", content)


RSA = (
    rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ("", "no public key is trusted here; set SLIPWAY_STORAGE_TRUSTED_KEYS"),
        ("no PEM", "no public key is trusted here"),
        (RSA, "is not on an elliptic curve"),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "a public key that cannot be read",
        ),
    ],
    ids=["none", "no-pem", "rsa", "damaged"],
)
def test_invalid_trusted_keys_are_refused(keys: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        TrustedKeys(keys)


def test_the_program_requires_signatures_by_default(
    mlflow: TrackingServer, artifact: Path, dest: Path, tmp_path: Path
) -> None:
    uri = registered(mlflow, artifact, "program-unsigned")
    ended = run(dest, uri, mlflow.url, tmp_path / "log", KEY.public)
    assert ended.returncode == 3
    assert (
        (tmp_path / "log")
        .read_text()
        .startswith("manifest.sig: is missing; program-unsigned version 1 is not signed")
    )
    assert list(dest.iterdir()) == []
