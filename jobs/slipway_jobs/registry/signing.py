"""Signing of a registered version."""

import tempfile
from pathlib import Path
from typing import Any

from slipway.errors import WrongParameter
from slipway.packaging import artifact
from slipway.registry.signing import sign
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import PACKAGE_SIGNATURE_FILE

from slipway_jobs.settings import Settings


def sign_version(version: Version, settings: Settings, tracking: Tracking) -> dict[str, Any]:
    """Sign a registered version, also one with an old key's signature; return the result as JSON.

    The signed bytes are those that the version's digest pins. Raises WrongParameter, WrongDigest,
    NoSuchVersion.
    """
    if settings.signing_key is None:
        raise WrongParameter(
            "SLIPWAY_SIGNING_KEY: is not set; it names the file with the private key"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = tracking.download(version, Path(temporary))
        artifact.check(folder, version.digest)
        signer = sign(folder, version.name, settings.signing_key)
        tracking.attach(version, folder / PACKAGE_SIGNATURE_FILE)
    tracking.tag(version, signer)
    return {
        "state": "signed",
        "model": version.name,
        "version": version.version,
        "digest": version.digest,
        **signer,
    }
