"""The folder of a model version, with a manifest that lists every other file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from slipway_contract.registry import (
    MANIFEST_FILE,
    PACKAGE_SIGNATURE_FILE,
    ArtifactFormat,
    ArtifactManifest,
    ManifestEntry,
    digest_of,
)

from slipway.errors import WrongDigest


def write(folder: Path, files: Mapping[str, bytes], form: ArtifactFormat) -> ArtifactManifest:
    """Write the files into the folder, then a manifest of all its files."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = ArtifactManifest(
        format=form, files=tuple(_entry(folder, path) for path in _paths(folder))
    )
    (folder / MANIFEST_FILE).write_bytes(manifest.content())
    return manifest


def check(folder: Path, digest: str) -> ArtifactManifest:
    """Raise WrongDigest unless the folder is, byte for byte, the artifact with that digest."""
    try:
        content = (folder / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        raise WrongDigest(f"the artifact has no {MANIFEST_FILE}") from None
    if digest_of(content) != digest:
        raise WrongDigest(
            f"{MANIFEST_FILE} has the digest {digest_of(content)}; {digest} is expected"
        )
    try:
        manifest = ArtifactManifest.model_validate_json(content)
    except ValidationError as error:
        raise WrongDigest(
            f"{MANIFEST_FILE} is not a manifest: {error.errors()[0]['msg']}"
        ) from None
    listed = {entry.path: entry for entry in manifest.files}
    found = {path.relative_to(folder).as_posix() for path in _paths(folder)} - {
        MANIFEST_FILE,
        PACKAGE_SIGNATURE_FILE,
    }
    if found != listed.keys():
        raise WrongDigest(
            f"files differ from {MANIFEST_FILE}: {', '.join(sorted(found ^ listed.keys()))}"
        )
    for name, entry in listed.items():
        if _entry(folder, folder / name) != entry:
            raise WrongDigest(f"{name} is not what {MANIFEST_FILE} lists")
    return manifest


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _entry(folder: Path, path: Path) -> ManifestEntry:
    content = path.read_bytes()
    return ManifestEntry(
        path=path.relative_to(folder).as_posix(),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
