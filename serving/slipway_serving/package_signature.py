"""Adapter of OpenSSF model signing: verifies that a trusted key has signed a manifest.

The manifest lists the digest of every file, so the signature covers all of them.
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
    """Public keys that may sign an artifact; several are accepted, so that keys can be rotated."""

    def __init__(self, text: str) -> None:
        """Read the keys from ``text``.

        PEM blocks of public keys or certificates, on elliptic curves.

        Only the key of a certificate is used. Raises Refused.
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
        """Raise Refused unless a trusted key has signed this manifest for the model ``name``."""
        signer = _signer(package_signature)
        if signer not in self._keys:
            raise Refused(
                f"{PACKAGE_SIGNATURE_FILE}: signed by the key {signer[:64]}, which is not "
                "trusted here"
            )
        # Imported here because it takes a second that a predictor without signatures does not need.
        from model_signing.verifying import Config

        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            key, signature = root / "key.pem", root / PACKAGE_SIGNATURE_FILE
            copy = root / "signed" / name / MANIFEST_FILE
            copy.parent.mkdir(parents=True)
            key.write_bytes(self._keys[signer])
            signature.write_bytes(package_signature)
            copy.write_bytes(manifest)
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
    """Return the SHA-256 of the PEM of the key that the signature names."""
    try:
        return str(json.loads(package_signature)["verificationMaterial"]["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(
            f"{PACKAGE_SIGNATURE_FILE}: is not a signature as OpenSSF model signing writes "
            "it with a key"
        ) from None
