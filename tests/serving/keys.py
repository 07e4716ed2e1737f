"""Keys that sign artifacts, as training signs them."""

import datetime as dt
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from model_signing.signing import Config


@dataclass(frozen=True)
class Key:
    """A private key; ``public`` and ``certificate`` are for verification."""

    private: ec.EllipticCurvePrivateKey

    @cached_property
    def public(self) -> str:
        return (
            self.private.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    @cached_property
    def certificate(self) -> str:
        """A self-signed, expired certificate: only its key is used."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slipway")])
        then = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        builder = x509.CertificateBuilder(
            name, name, self.private.public_key(), 1, then, then + dt.timedelta(days=1)
        )
        return builder.sign(self.private, SHA256()).public_bytes(Encoding.PEM).decode()

    def sign(self, folder: Path, name: str) -> None:
        """Sign the manifest in the folder for the registered model."""
        with tempfile.TemporaryDirectory() as temporary:
            key = Path(temporary) / "key.pem"
            copy = Path(temporary) / "signed" / name / "manifest.json"
            key.write_bytes(
                self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
            copy.parent.mkdir(parents=True)
            copy.write_bytes((folder / "manifest.json").read_bytes())
            signer = Config().use_elliptic_key_signer(private_key=key)  # type: ignore[no-untyped-call]
            signer.sign(copy.parent.parent, folder / "manifest.sig")


KEY, UNTRUSTED = (
    Key(ec.generate_private_key(ec.SECP256R1())),
    Key(ec.generate_private_key(ec.SECP384R1())),
)
