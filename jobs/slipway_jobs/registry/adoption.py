"""Adoption of versions that were logged with ``mlflow.FLAVOR.log_model``, without a digest.

Trust on first use: the content of the store at this moment is pinned. The logged model stays
unchanged; the artifact that is served is written beside it, and a tag of the version names it.
"""

import tempfile
from pathlib import Path
from typing import Any

from slipway.errors import Refused
from slipway.packaging import artifact
from slipway.registry.signing import sign
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import NAME, NAME_RULE, Tag

from slipway_jobs.registry.derivation import derive_isolated
from slipway_jobs.settings import Settings

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
        logged = tracking.download(version, folder / "logged", limit)
        manifest = derive_isolated(logged, folder, version, settings.user, limit)
        signer = sign(folder / "artifact", version.name, settings.signing_key)
        with tracking.logged_model(run, version.name, tags, manifest.format) as model_id:
            tracking.upload(model_id, folder / "artifact")
            artifact.check(tracking.download(model_id, folder / "stored"), manifest.digest)
        if Tag.DIGEST in tracking.version(version.name, version.version).tags:
            raise Refused(f"{version} was pinned by another process in the meantime")
        # The digest is written last: it marks the version as pinned.
        tags = {
            Tag.FORMAT: manifest.format.value,
            Tag.ARTIFACT: f"models:/{model_id}",
            **signer,
            Tag.DIGEST: manifest.digest,
        }
        tracking.tag(version, tags)
    return {
        "state": "adopted",
        **result,
        "digest": manifest.digest,
        "format": manifest.format.value,
    }
