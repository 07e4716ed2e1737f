"""Adapter of OpenSSF model signing: signs the manifest of an artifact, which lists every file."""

import json
import logging
import tempfile
from pathlib import Path

from slipway_contract.registry import MANIFEST_FILE, NAME, NAME_RULE, PACKAGE_SIGNATURE_FILE, Tag

from slipway.errors import Refused, WrongParameter

logger = logging.getLogger(__name__)


def sign(folder: Path, name: str, key: Path | None) -> dict[str, str]:
    """Sign the artifact in the folder as the registered model ``name`` and return the signer's tag.

    ``key`` is a PEM file with a private key on the elliptic curve P-256, P-384 or P-521. None signs
    nothing. Raises WrongParameter, Refused.
    """
    if key is None:
        logger.warning("the artifact is not signed: SLIPWAY_SIGNING_KEY is not set")
        return {}
    if not NAME.fullmatch(name):
        raise Refused(
            f"{name!r} is not a name that can be served, so nothing is signed for it; {NAME_RULE}"
        )
    from model_signing import signing  # takes a second to import; only signing needs it

    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, AttributeError):
        # The error's text is left out, because it may contain parts of the key.
        raise WrongParameter(
            f"SLIPWAY_SIGNING_KEY: {key} is not a readable PEM file with a private key on "
            "P-256, P-384 or P-521"
        ) from None
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / name / MANIFEST_FILE
        copy.parent.mkdir()
        copy.write_bytes((folder / MANIFEST_FILE).read_bytes())
        signer.sign(temporary, folder / PACKAGE_SIGNATURE_FILE)
    signed = json.loads((folder / PACKAGE_SIGNATURE_FILE).read_bytes())
    return {Tag.SIGNER: signed["verificationMaterial"]["publicKey"]["hint"]}
