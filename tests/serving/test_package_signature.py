"""Who vouches for an artifact: signed versions in a real MLflow tracking server."""

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
from tests.serving.keys import FOREIGN, KEY
from tests.serving.test_storage import get, refusal, run
from tests.serving.tracking_server import TrackingServer, uri_of

TRUSTED = TrustedKeys(KEY.public)


def registered(mlflow: TrackingServer, artifact: Path, name: str) -> str:
    """The storage URI of the folder as it is now."""
    manifest = ArtifactManifest.model_validate_json((artifact / "manifest.json").read_bytes())
    return uri_of(name, mlflow.register(name, artifact)[0], manifest)


@pytest.mark.slow
def test_a_signed_version_arrives(mlflow: TrackingServer, artifact: Path, dest: Path) -> None:
    KEY.sign(artifact, "signed")
    get(mlflow, registered(mlflow, artifact, "signed"), dest, TRUSTED)
    assert (dest / "model.onnx").is_file()
    assert not (dest / "manifest.sig").exists()


def test_an_unsigned_version_is_refused_and_served_only_where_none_need_be_signed(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    uri = registered(mlflow, artifact, "unsigned")
    assert (
        refusal(mlflow, uri, dest, TRUSTED)
        == "manifest.sig: is missing; unsigned version 1 is not signed"
    )
    get(mlflow, uri, dest, None)


def test_a_foreign_key_is_refused_by_its_fingerprint(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    FOREIGN.sign(artifact, "foreign-key")
    hint = json.loads((artifact / "manifest.sig").read_bytes())["verificationMaterial"][
        "publicKey"
    ]["hint"]
    said = refusal(mlflow, registered(mlflow, artifact, "foreign-key"), dest, TRUSTED)
    assert said == f"manifest.sig: signed by the key {hint}, which is not trusted here"


def test_a_foreign_key_that_says_it_is_the_trusted_one_is_refused(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    FOREIGN.sign(artifact, "disguised")
    forged = json.loads((artifact / "manifest.sig").read_bytes())
    KEY.sign(artifact, "disguised")
    forged["verificationMaterial"] = json.loads((artifact / "manifest.sig").read_bytes())[
        "verificationMaterial"
    ]
    (artifact / "manifest.sig").write_text(json.dumps(forged))
    said = refusal(mlflow, registered(mlflow, artifact, "disguised"), dest, TRUSTED)
    assert said == "manifest.sig: is not a signature of this manifest.json for the model disguised"


def test_an_artifact_that_was_changed_and_pinned_anew_is_refused(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    KEY.sign(artifact, "tampered-well")
    (artifact / "provenance.json").write_text('{"runId": "of somebody else"}')
    write_manifest(artifact)
    said = refusal(mlflow, registered(mlflow, artifact, "tampered-well"), dest, TRUSTED)
    assert (
        said == "manifest.sig: is not a signature of this manifest.json for the model tampered-well"
    )


def test_the_signature_of_one_model_does_not_pass_for_anothers(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    KEY.sign(artifact, "weather")
    said = refusal(mlflow, registered(mlflow, artifact, "patients"), dest, TRUSTED)
    assert said == "manifest.sig: is not a signature of this manifest.json for the model patients"


def test_a_changed_byte_is_refused_though_the_manifest_is_signed(
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


def test_a_pickle_is_refused_whoever_signed_it(
    mlflow: TrackingServer, artifact: Path, dest: Path
) -> None:
    (artifact / "model.onnx").write_bytes(pickle.dumps(os.getcwd))
    write_manifest(artifact)
    KEY.sign(artifact, "signed-pickle")
    said = refusal(mlflow, registered(mlflow, artifact, "signed-pickle"), dest, TRUSTED)
    assert said == "model.onnx is a pickle, which could run any code; it is not accepted"


@pytest.mark.parametrize(
    "trusted", [FOREIGN.public + KEY.public, KEY.certificate + "\n" + FOREIGN.certificate]
)
def test_of_several_keys_each_may_have_signed(
    mlflow: TrackingServer, artifact: Path, dest: Path, trusted: str
) -> None:
    for key in (KEY, FOREIGN):
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
def test_what_is_no_signature_is_refused(content: bytes) -> None:
    with pytest.raises(Refused, match=r"manifest\.sig: is not a signature as"):
        TRUSTED.check("any", b"{}", content)


RSA = (
    rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.mark.parametrize(
    ("keys", "said"),
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
def test_keys_that_cannot_check_anything_are_refused(keys: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        TrustedKeys(keys)


def test_the_program_asks_for_signatures_unless_it_is_told_otherwise(
    mlflow: TrackingServer, artifact: Path, dest: Path, tmp_path: Path
) -> None:
    uri = registered(mlflow, artifact, "program-unsigned")
    ended = run(dest, uri, mlflow.url, tmp_path / "log", KEY.public)
    assert ended.returncode == 3
    assert (
        tmp_path / "log"
    ).read_text() == "manifest.sig: is missing; program-unsigned version 1 is not signed\n"
    assert list(dest.iterdir()) == []
