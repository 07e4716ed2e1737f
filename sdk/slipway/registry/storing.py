"""Storing of a version: its package is written, signed, uploaded, verified and registered."""

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from slipway_contract.registry import ArtifactFormat, Tag

from slipway.packaging import artifact
from slipway.registry.signing import sign
from slipway.registry.tracking import Run, Tracking, Version

logger = logging.getLogger(__name__)


def store_version(
    tracking: Tracking,
    run: Run,
    name: str,
    files: Mapping[str, bytes],
    form: ArtifactFormat,
    tags: Mapping[str, str],
    description: str,
    key: Path | None,
    save: Callable[[Path, str], None] | None = None,
) -> Version:
    """Write the package, upload it, verify a download of it, and register the version.

    ``save(folder, model id)`` creates the folder with the model file and MLflow's own files;
    without it, the model file is one of ``files``. ``key`` signs the package. Raises WrongDigest.
    """
    with (
        tempfile.TemporaryDirectory() as temporary,
        tracking.logged_model(run, name, tags, form) as model_id,
    ):
        folder = Path(temporary) / "model"
        if save:
            save(folder, model_id)
        folder.mkdir(exist_ok=True)
        manifest = artifact.write(folder, files, form)
        signer = sign(folder, name, key)
        logger.info("storing %d files, %s", len(manifest.files) + 1, manifest.digest)
        tracking.upload(model_id, folder)
        artifact.check(tracking.download(model_id, Path(temporary) / "stored"), manifest.digest)
    version = {**tags, **signer, Tag.DIGEST: manifest.digest, Tag.FORMAT: form.value}
    return tracking.register(name, model_id, run, version, description)
