"""Signatures of versions, and signing again with another key."""

import shutil
from pathlib import Path

import pytest
import slipway
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from model_signing.verifying import Config
from slipway.errors import NoSuchVersion, Refused, WrongParameter
from slipway.packaging import artifact
from slipway.registry.signing import sign
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import Tag
from slipway_jobs.promotion.promotion import PromotionRequest, promote
from slipway_jobs.registry.adoption import adopt
from slipway_jobs.registry.signing import sign_version
from slipway_jobs.settings import Settings

from tests.jobs.test_adoption import graph, logged
from tests.sdk.churn import customers, pipeline

Private = ec.EllipticCurvePrivateKey


def written(path: Path, key: Private) -> Path:
    """Write the private key as a PEM file, and the public key beside it; return its path."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.with_suffix(".pub").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return written(tmp_path / "first.pem", ec.generate_private_key(ec.SECP256R1()))


def verify(folder: Path, name: str, key: Path, scratch: Path) -> None:
    """Verify the signature with OpenSSF's tool; raise unless it is that of the key."""
    root = scratch / f"{name}-{key.stem}"
    (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "manifest.json", root / name)
    config = Config().use_elliptic_key_verifier(public_key=key.with_suffix(".pub"))  # type: ignore[no-untyped-call]
    config.verify(root, folder / "manifest.sig")


@pytest.mark.slow
def test_an_adopted_version_is_signed_and_can_be_signed_again_by_a_new_key(
    tracking: Tracking, mlflow_url: str, settings: Settings, key: Path, tmp_path: Path
) -> None:
    version = logged(tracking, mlflow_url, graph(["rows", 3]), "signed")
    adopt(version, settings.model_copy(update={"signing_key": key}), tracking)
    version = tracking.version(version.name, version.version)
    folder = tracking.download(version, tmp_path / "adopted")
    artifact.check(folder, version.digest)
    verify(folder, version.name, key, tmp_path)

    successor = written(tmp_path / "second.pem", ec.generate_private_key(ec.SECP384R1()))
    again = sign_version(version, settings.model_copy(update={"signing_key": successor}), tracking)
    folder = tracking.download(version, tmp_path / "again")
    assert artifact.check(folder, version.digest).digest == again["digest"]
    verify(folder, version.name, successor, tmp_path)
    with pytest.raises(ValueError, match="Key mismatch"):
        verify(folder, version.name, key, tmp_path)
    assert (
        tracking.version(version.name, version.version).tags[Tag.SIGNER]
        == again[Tag.SIGNER]
        != version.tags[Tag.SIGNER]
    )


@pytest.mark.slow
def test_the_gate_signs_an_unsigned_version_that_it_accepts(
    tracking: Tracking,
    mlflow_url: str,
    settings: Settings,
    key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    rows, truth = customers(120)
    version = slipway.log_model(pipeline().fit(rows, truth), "accepted", evaluation=(rows, truth))
    signing = settings.model_copy(update={"signing_key": key})
    worse = PromotionRequest("champion", min_gain=1)
    assert promote(None, version, worse, signing, tracking)["state"] == "refused"
    assert Tag.SIGNER not in tracking.version(version.name, version.version).tags

    result = promote(None, version, PromotionRequest("champion", min_gain=-1), signing, tracking)
    assert result["state"] == "promoted"
    version = tracking.version(version.name, version.version)
    assert version.tags[Tag.SIGNER]
    verify(tracking.download(version, tmp_path / "accepted"), version.name, key, tmp_path)


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    assert sign(tmp_path, "heart", None) == {}
    assert list(tmp_path.iterdir()) == []


def test_signing_again_needs_a_key(settings: Settings, tracking: Tracking) -> None:
    with pytest.raises(WrongParameter, match="SLIPWAY_SIGNING_KEY: is not set"):
        sign_version(Version("heart", "1", "", {}), settings, tracking)


@pytest.mark.slow
def test_a_version_without_a_digest_is_not_signed(
    tracking: Tracking, mlflow_url: str, settings: Settings, key: Path
) -> None:
    version = logged(tracking, mlflow_url, graph(["rows", 3]), "never-adopted")
    with pytest.raises(NoSuchVersion, match=r"slipway\.digest"):
        sign_version(version, settings.model_copy(update={"signing_key": key}), tracking)


EC, RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    "content",
    [
        b"no PEM at all",
        ec.generate_private_key(ec.SECP256K1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password")),
        EC.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        None,
    ],
    ids=["text", "another-curve", "rsa", "encrypted", "public", "no-file"],
)
def test_an_invalid_key_is_reported_without_its_content(
    tmp_path: Path, content: bytes | None
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    if content:
        (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(WrongParameter) as caught:
        sign(tmp_path, "heart", tmp_path / "key.pem")
    assert str(caught.value).startswith("SLIPWAY_SIGNING_KEY: ")
    assert "BEGIN" not in str(caught.value)
    assert not (tmp_path / "manifest.sig").exists()


@pytest.mark.parametrize("name", ["..", "a/b", ""])
def test_an_invalid_model_name_is_not_signed(tmp_path: Path, key: Path, name: str) -> None:
    with pytest.raises(Refused, match="not a name"):
        sign(tmp_path, name, key)
