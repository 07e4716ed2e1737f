"""Adoption of versions that were logged with ``mlflow.FLAVOR.log_model``, without a digest.

Trust on first use: the content of the store at this moment is pinned. The logged model stays
unchanged; the artifact that is served is written beside it, and a tag of the version names it.
"""

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from slipway.errors import Refused, WrongParameter
from slipway.packaging import artifact
from slipway.packaging.card import card
from slipway.packaging.frames import frame_rows
from slipway.packaging.model import PackagedModel
from slipway.packaging.model_file import read_model
from slipway.packaging.package import package
from slipway.packaging.rows import Arrays, request_of
from slipway.registry.signing import sign
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import (
    CARD_FILE,
    EXAMPLE_FILE,
    NAME,
    NAME_RULE,
    SIGNATURE_FILE,
    ArtifactManifest,
    Tag,
)

from slipway_jobs.registry.flavor import model_file
from slipway_jobs.registry.logged_graph import of_logged_graph
from slipway_jobs.registry.mlmodel import LoggedModel, read_folder
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

EXPERIMENT = "adoption"


def adopt(version: Version, settings: Settings, tracking: Tracking) -> dict[str, Any]:
    """Pin the version and return the result as JSON.

    ``state`` is adopted, or unchanged when the version has a digest already. Raises Refused when it
    cannot be served; the reason names what to log instead.
    """
    result = {"model": version.name, "version": version.version}
    if Tag.DIGEST in version.tags:
        return {"state": "unchanged", **result, "digest": version.digest}
    if not NAME.fullmatch(version.name):
        raise Refused(
            f"{version.name!r} is not a name that can be served; rename the registered "
            f"model: {NAME_RULE}"
        )
    tags = {
        "slipway.model": version.name,
        "slipway.adopted.version": version.version,
        "slipway.adopted.by": settings.user,
    }
    with (
        tempfile.TemporaryDirectory() as temporary,
        tracking.run(f"{EXPERIMENT}-{version.name}", str(version), tags) as run,
    ):
        folder = Path(temporary)
        (folder / "artifact").mkdir()
        limit = settings.import_limit
        logged = read_folder(tracking.download(version, folder / "logged", limit), limit)
        packaged, manifest = derive(logged, folder / "artifact", version, settings)
        signer = sign(folder / "artifact", version.name, settings.signing_key)
        with tracking.logged_model(run, version.name, tags, packaged.form) as model_id:
            tracking.upload(model_id, folder / "artifact")
            artifact.check(tracking.download(model_id, folder / "stored"), manifest.digest)
        if Tag.DIGEST in tracking.version(version.name, version.version).tags:
            raise Refused(f"{version} was pinned by another process in the meantime")
        # The digest is written last: it marks the version as pinned.
        tags = {
            Tag.FORMAT: packaged.form.value,
            Tag.ARTIFACT: f"models:/{model_id}",
            **signer,
            Tag.DIGEST: manifest.digest,
        }
        tracking.tag(version, tags)
    return {
        "state": "adopted",
        **result,
        "digest": manifest.digest,
        "format": packaged.form.value,
    }


def derive(
    logged: LoggedModel, folder: Path, version: Version, settings: Settings
) -> tuple[PackagedModel, ArtifactManifest]:
    """Write the artifact of the logged model into the folder; return its package and manifest."""
    flavor, path = model_file(logged, version.name)
    packaged, rows = of_logged_graph(path, logged) if flavor == "onnx" else _packaged(path, logged)
    provenance = {
        "adoptedBy": settings.user,
        "flavor": flavor,
        "parity": packaged.parity.as_json() if packaged.parity else None,
        **({"runId": version.run_id} if version.run_id else {}),
    }
    data = [
        f"Logged with mlflow.{flavor}.log_model and adopted unchanged. Training data and scores "
        "are not recorded.",
        *([] if logged.has_example else ["No input example was logged."]),
    ]
    text = card(str(version), None, packaged, data, {}, f"run {version.run_id or 'unknown'}")
    files = {
        SIGNATURE_FILE: packaged.signature.model_dump_json(
            indent=1, exclude_defaults=True
        ).encode(),
        EXAMPLE_FILE: request_of(packaged.signature, rows),
        CARD_FILE: text.encode(),
        "provenance.json": json.dumps(provenance, indent=1).encode(),
    }
    (folder / packaged.form.file).write_bytes(packaged.content)
    return packaged, artifact.write(folder, files, packaged.form)


def _packaged(path: Path, logged: LoggedModel) -> tuple[PackagedModel, Arrays]:
    """Return the package of a model that is no graph, and its rows. Raises Refused."""
    frame, inputs = logged.table()
    try:
        packaged = package(read_model(path), {"input_example": frame}, inputs=inputs)
        rows = frame_rows(frame[:1], packaged.signature.inputs)
    except WrongParameter as error:
        raise Refused(str(error)) from error
    return packaged, rows
