"""Storage URIs and artifact manifests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from slipway_contract.registry import (
    SAFE_FORMATS,
    ArtifactFormat,
    ArtifactManifest,
    ManifestEntry,
    StorageUri,
    digest_of,
)

HEX = "ab" * 32


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True),
    st.integers(1, 999_999_999),
    st.binary().map(digest_of),
    st.booleans(),
    st.booleans(),
)
def test_a_storage_uri_survives_a_round_trip(
    name: str, version: int, digest: str, joblib: bool, implementation: bool
) -> None:
    allow = SAFE_FORMATS | {*([ArtifactFormat.JOBLIB] if joblib else [])}
    uri = StorageUri(
        name=name,
        version=str(version),
        sha256=digest.removeprefix("sha256:"),
        allow=allow,
        implementation=implementation,
    )
    assert StorageUri.parse(str(uri)) == uri
    assert ("allow=joblib" in str(uri)) is joblib


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"s3://heart/3?sha256={HEX}", "does not start with mlflow://"),
        ("mlflow://heart/3", "must pin the artifact"),
        ("mlflow://heart/3?sha256=abc", "must pin the artifact"),
        (f"mlflow://heart/3?sha256={HEX}&sha256={HEX}", "must pin the artifact"),
        (f"mlflow://heart/latest?sha256={HEX}", "'latest' is not a version number"),
        (f"mlflow://heart/3/../4?sha256={HEX}", "not a version number"),
        (f"mlflow://he%2Fart/3?sha256={HEX}", "not a registered model's name"),
        (f"mlflow://he.art/3?sha256={HEX}", "not a registered model's name"),
        (f"mlflow://heart%0A/3?sha256={HEX}", "not a registered model's name"),
        (f"mlflow://heart/3?sha256={HEX}&allow=pickle", "allow= takes"),
        (f"mlflow://heart/3?sha256={HEX}&implementation=os.system", "implementation= takes none"),
        (f"mlflow://heart/3?sha256={HEX}&trust=1", "unknown parameters: trust"),
    ],
)
def test_an_invalid_storage_uri_is_rejected(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        StorageUri.parse(text)


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a\\b", "", ".", "a//b", "./a"])
def test_a_path_outside_the_artifact_is_rejected(path: str) -> None:
    with pytest.raises(ValidationError):
        ManifestEntry(path=path, size=1, sha256=HEX)


def entry(path: str, sha256: str = HEX) -> ManifestEntry:
    return ManifestEntry(path=path, size=1, sha256=sha256)


def test_the_digest_depends_on_every_byte_and_not_on_the_order() -> None:
    files = (entry("model.onnx"), entry("signature.json"))
    manifest = ArtifactManifest(format=ArtifactFormat.ONNX, files=files)
    assert ArtifactManifest(format=ArtifactFormat.ONNX, files=files[::-1]).digest == manifest.digest
    other = ArtifactManifest(
        format=ArtifactFormat.ONNX, files=(entry("model.onnx", "cd" * 32), files[1])
    )
    assert other.digest != manifest.digest
    assert (
        ArtifactManifest.model_validate_json(manifest.content()).digest
        == manifest.digest
        == digest_of(manifest.content())
    )


@pytest.mark.parametrize(
    "files", [(), (entry("model.onnx"),) * 2, (entry("model.onnx"), entry("manifest.json"))]
)
def test_an_incomplete_manifest_is_rejected(files: tuple[ManifestEntry, ...]) -> None:
    with pytest.raises(ValidationError):
        ArtifactManifest(format=ArtifactFormat.ONNX, files=files)
