"""The door to OpenSSF model signing: whether somebody who is trusted vouches for a manifest, and so
for all that it lists.
"""

import hashlib
import json
import logging
import re
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from slipway_contract.registry import MANIFEST_FILE, PACKAGE_SIGNATURE_FILE

from slipway_serving.errors import Refused

_log = logging.getLogger(__name__)
_PEM = re.compile(r"-----BEGIN (PUBLIC KEY|CERTIFICATE)-----.+?-----END \1-----", re.DOTALL)


class TrustedKeys:
    """Public keys of those who may sign; there can be several, so that one can follow another."""

    def __init__(self, text: str) -> None:
        """``text``: PEM blocks, public keys on elliptic curves or certificates of such; of these,
        only the key is looked at.

        Raises Refused.
        """
        self._keys: dict[str, bytes] = {}
        for block in _PEM.finditer(text):
            pem = _public_key(block[1], block[0].encode())
            self._keys[hashlib.sha256(pem).hexdigest()] = pem
        if not self._keys:
            raise Refused(
                f"{PACKAGE_SIGNATURE_FILE}: no public key is trusted here; set "
                "SLIPWAY_STORAGE_TRUSTED_KEYS"
            )

    def check(self, name: str, manifest: bytes, package_signature: bytes) -> None:
        """Raise Refused unless the seal is a trusted key's signature of this manifest as one of the
        registered model ``name``.
        """
        signer = _signer(package_signature)
        if signer not in self._keys:
            raise Refused(
                f"{PACKAGE_SIGNATURE_FILE}: signed by the key {signer[:64]}, which is not "
                "trusted here"
            )
        from model_signing.verifying import (
            Config,
        )  # a second that a predictor without signatures does not spend

        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            key, signature, copy = (
                root / "key.pem",
                root / PACKAGE_SIGNATURE_FILE,
                root / "signed" / name / MANIFEST_FILE,
            )
            copy.parent.mkdir(parents=True)
            for path, content in (
                (key, self._keys[signer]),
                (signature, package_signature),
                (copy, manifest),
            ):
                path.write_bytes(content)
            try:
                config = Config()  # type: ignore[no-untyped-call]
                config.use_elliptic_key_verifier(public_key=key).verify(root / "signed", signature)
            # Hostile bytes raise anything: json, pydantic, cryptography, model_signing.
            except Exception as error:
                _log.info("%s: %s: %s", PACKAGE_SIGNATURE_FILE, type(error).__name__, error)
                raise Refused(
                    f"{PACKAGE_SIGNATURE_FILE}: is not a signature of this {MANIFEST_FILE} "
                    f"for the model {name}"
                ) from error


def _public_key(kind: str, pem: bytes) -> bytes:
    try:
        key = (
            load_pem_x509_certificate(pem).public_key()
            if kind == "CERTIFICATE"
            else load_pem_public_key(pem)
        )
    except ValueError as error:
        raise Refused(
            f"{PACKAGE_SIGNATURE_FILE}: SLIPWAY_STORAGE_TRUSTED_KEYS has a {kind.lower()} "
            f"that cannot be read: {error}"
        ) from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise Refused(
            f"{PACKAGE_SIGNATURE_FILE}: SLIPWAY_STORAGE_TRUSTED_KEYS has a key that is not "
            "on an elliptic curve"
        )
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _signer(package_signature: bytes) -> str:
    """The key that the signature names, by which the right one of several is found: SHA-256 of its
    PEM.
    """
    try:
        return str(json.loads(package_signature)["verificationMaterial"]["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(
            f"{PACKAGE_SIGNATURE_FILE}: is not a signature as OpenSSF model signing writes "
            "it with a key"
        ) from None
