"""``slipway-storage-initializer URI DEST``: download one registered version and verify it.

The storage URI pins the digest of the artifact's manifest. The manifest pins the size and digest of
every file, and a signature proves the signer. Any mismatch is rejected with a one-line reason; then
DEST is left empty and the program ends with status 3.
"""

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
from pydantic import ValidationError
from slipway_contract.errors import explain_settings
from slipway_contract.pickles import is_pickle, named_like_a_pickle
from slipway_contract.registry import (
    MANIFEST_FILE,
    PACKAGE_SIGNATURE_FILE,
    ArtifactFormat,
    ArtifactManifest,
    ManifestEntry,
    StorageUri,
)

from slipway_serving.artifact import MODEL_SETTINGS_FILE, Artifact
from slipway_serving.errors import Refused, first_finding
from slipway_serving.mlflow_registry import MlflowRegistry
from slipway_serving.package_signature import TrustedKeys
from slipway_serving.settings import StorageSettings

_log = logging.getLogger(__name__)

REFUSED = 3
"""Exit status when the artifact is rejected."""

INCOMING = ".incoming"
"""Folder in DEST for files that are not verified yet."""

_LARGEST_MANIFEST = 4 * 2**20
# An artifact's own settings files would select the class that MLServer loads.
_NEVER_PLACED = frozenset({MODEL_SETTINGS_FILE, "settings.json"})


def fetch(
    uri: StorageUri,
    dest: Path,
    registry: MlflowRegistry,
    size_limit: int,
    trusted: TrustedKeys | None,
) -> ArtifactManifest:
    """Download the verified artifact into ``dest`` and return its manifest.

    ``dest`` is an empty folder or one with the remains of an earlier try. ``trusted`` are the keys
    that may have signed the artifact; None accepts an unsigned one. Raises Refused; then ``dest``
    is empty.
    """
    _clear(dest)
    try:
        incoming = dest / INCOMING
        incoming.mkdir(parents=True)
        manifest = _download(uri, incoming, registry, size_limit, trusted)
        if ArtifactFormat.JOBLIB is not manifest.format:
            # Load it once here: KServe reports a failure of this container. A pickle is not loaded,
            # because its code would run in a container with MLflow's credentials.
            Artifact.read(incoming, manifest.format).load()
        for path in _placed(incoming):
            path.rename(dest / path.name)
        (dest / MODEL_SETTINGS_FILE).write_text(
            json.dumps(_model_settings(uri, manifest), indent=2)
        )
        shutil.rmtree(incoming)
    except OSError as error:
        _wipe(dest)
        raise Refused(f"cannot write to {dest}: {error}") from error
    except BaseException:
        _wipe(dest)
        raise
    return manifest


def _download(
    uri: StorageUri,
    incoming: Path,
    registry: MlflowRegistry,
    size_limit: int,
    trusted: TrustedKeys | None,
) -> ArtifactManifest:
    location = registry.location(uri.name, uri.version)
    stored = registry.files(location)
    if MANIFEST_FILE not in stored:
        raise Refused(
            f"{uri.name} version {uri.version} has no {MANIFEST_FILE}: it was not registered "
            "by Slipway"
        )
    content = registry.read(location, MANIFEST_FILE, partial(_bounded_bytes, name=MANIFEST_FILE))
    manifest = _manifest(uri, content)
    if trusted:  # before any byte of the model is downloaded
        if PACKAGE_SIGNATURE_FILE not in stored:
            raise Refused(
                f"{PACKAGE_SIGNATURE_FILE}: is missing; {uri.name} version {uri.version} is "
                f"not signed; run python -m slipway_jobs sign {uri.name} {uri.version}, or train "
                "it again by a Job of the platform"
            )
        consume = partial(_bounded_bytes, name=PACKAGE_SIGNATURE_FILE)
        signature = registry.read(location, PACKAGE_SIGNATURE_FILE, consume)
        trusted.check(uri.name, content, signature)
    _check_listing(manifest, stored, size_limit)
    for entry in manifest.files:
        _log.info("downloading %s, %d bytes", entry.path, entry.size)
        target = incoming / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = registry.read(location, entry.path, partial(_written, target=target, entry=entry))
        if digest != entry.sha256:
            raise Refused(
                f"{entry.path}: digest mismatch, sha256 is {digest}; the manifest has "
                f"{entry.sha256}"
            )
        if entry.path != _allowed_pickle(manifest) and is_pickle(target):
            raise Refused(f"{entry.path} is a pickle, which could run any code; it is not accepted")
    return manifest


def _manifest(uri: StorageUri, content: bytes) -> ArtifactManifest:
    if (found := hashlib.sha256(content).hexdigest()) != uri.sha256:
        raise Refused(
            f"{MANIFEST_FILE}: digest mismatch, sha256 is {found}; the storage URI pins "
            f"{uri.sha256}"
        )
    try:
        manifest = ArtifactManifest.model_validate_json(content)
    except ValidationError as error:
        raise Refused(f"{MANIFEST_FILE}: {first_finding(error)}") from error
    if manifest.format not in uri.allow:
        raise Refused(
            f"{manifest.format.file} is a pickle, which could run any code; the Model does "
            f"not allow {manifest.format}"
        )
    return manifest


def _check_listing(manifest: ArtifactManifest, stored: set[str], size_limit: int) -> None:
    """Raise Refused for a manifest or a listing that is invalid, before a file is downloaded."""
    for entry in manifest.files:
        if not entry.path.isprintable():
            raise Refused(
                f"{MANIFEST_FILE}: the name {entry.path!r} has characters that cannot be printed"
            )
        if named_like_a_pickle(entry.path) and entry.path != _allowed_pickle(manifest):
            raise Refused(f"{entry.path} is a pickle, which could run any code; it is not accepted")
        if entry.path not in stored:
            raise Refused(f"{entry.path} is listed in {MANIFEST_FILE} but not in the store")
    listed = {entry.path for entry in manifest.files} | {MANIFEST_FILE, PACKAGE_SIGNATURE_FILE}
    if extra := stored - listed:
        raise Refused(f"{min(extra)} is in the store but not listed in {MANIFEST_FILE}")
    if (size := sum(entry.size for entry in manifest.files)) > size_limit:
        raise Refused(f"the artifact has {size} bytes; at most {size_limit} are accepted")


def _allowed_pickle(manifest: ArtifactManifest) -> str | None:
    return manifest.format.file if manifest.format is ArtifactFormat.JOBLIB else None


def _bounded_bytes(chunks: Iterator[bytes], name: str) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > _LARGEST_MANIFEST:
            raise Refused(f"{name}: is larger than {_LARGEST_MANIFEST} bytes")
    return bytes(content)


def _written(chunks: Iterator[bytes], target: Path, entry: ManifestEntry) -> str:
    """Write the file and return its sha256.

    Raises Refused when its size differs from the manifest's.
    """
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > entry.size:
                raise Refused(f"{entry.path} is larger than the {entry.size} bytes of the manifest")
            digest.update(chunk)
            file.write(chunk)
    if size < entry.size:
        raise Refused(f"{entry.path} has {size} bytes; the manifest has {entry.size}")
    return digest.hexdigest()


def _placed(incoming: Path) -> Iterator[Path]:
    for path in list(incoming.rglob("*")):
        if path.name in _NEVER_PLACED and path.is_file():
            path.unlink()
    return incoming.iterdir()


def _model_settings(uri: StorageUri, manifest: ArtifactManifest) -> dict[str, object]:
    """Return MLServer's model settings without a name, which KServe sets.

    Without an implementation, a runtime of another format uses its own.
    """
    extra = {"registeredModel": uri.name, "digest": uri.digest, "format": manifest.format.value}
    settings: dict[str, object] = {"parameters": {"version": uri.version, "extra": extra}}
    if uri.implementation:
        settings["implementation"] = "slipway_serving.model.SlipwayModel"
    return settings


def _clear(dest: Path) -> None:
    """Remove the remains of an earlier try; refuse a folder that holds anything else."""
    if dest.is_dir() and any(dest.iterdir()):
        if not any((dest / name).exists() for name in (INCOMING, MODEL_SETTINGS_FILE)):
            raise Refused(f"{dest} is not empty; the storage initializer did not write its files")
        _wipe(dest)


def _wipe(dest: Path) -> None:
    for path in dest.iterdir() if dest.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def main() -> int:
    """Run the storage initializer and return its exit status.

    0 when the artifact is in DEST, 3 when it was rejected, 2 for invalid settings or arguments.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if len(sys.argv) != 3:
        sys.stderr.write("usage: slipway-storage-initializer URI DEST\n")
        return 2
    try:
        settings = StorageSettings()
    except ValidationError as error:
        sys.stderr.write(explain_settings(error, "SLIPWAY_STORAGE_"))
        return 2
    try:
        _initialize(sys.argv[1], Path(sys.argv[2]), settings)
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        with suppress(OSError):
            settings.termination_log.write_text(f"{error}\n")
        return REFUSED
    return 0


def _initialize(text: str, dest: Path, settings: StorageSettings) -> None:
    try:
        uri = StorageUri.parse(text)
    except ValueError as error:
        raise Refused(str(error)) from error
    trusted = TrustedKeys(settings.trusted_keys) if settings.require_signed else None
    with httpx.Client(
        auth=_credentials(settings), timeout=settings.timeout, follow_redirects=False
    ) as client:
        manifest = fetch(uri, dest, MlflowRegistry(settings, client), settings.size_limit, trusted)
    _log.info(
        "%s version %s is verified: %d files, %s",
        uri.name,
        uri.version,
        len(manifest.files),
        uri.digest,
    )


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def _credentials(settings: StorageSettings) -> httpx.Auth | None:
    if settings.token:
        return _Bearer(settings.token.get_secret_value())
    if settings.username and settings.password:
        return httpx.BasicAuth(settings.username, settings.password.get_secret_value())
    return None


if __name__ == "__main__":
    sys.exit(main())
