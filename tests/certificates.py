"""Keys and certificates made on the fly, for tests of signed messages."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

TRUSTED = "trusted"


@dataclass(frozen=True)
class Identity:
    """Somebody who signs. key, certificate: files. store: the folder of those trusted, as a glob."""

    key: Path
    certificate: Path
    store: str

    def settings(self, **more: object) -> dict[str, object]:
        """The settings that make an app sign as this identity."""
        return {
            "task_serializer": "auth",
            "result_serializer": "auth",
            "accept_content": ["auth"],
            "security_key": str(self.key),
            "security_certificate": str(self.certificate),
            "security_cert_store": self.store,
            **more,
        }


def make(
    folder: Path, name: str, *, trusted: bool = True, ends_in_s: float = 3600.0, password: str = "", kind: str = "rsa"
) -> Identity:
    """Write a new key and a certificate for it, that ends in so many seconds (before now when negative)."""
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ends_in_s)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=30))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    secret = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    (folder / TRUSTED).mkdir(exist_ok=True)
    key_file = folder / f"{name}.key"
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    certificate_file = folder / (TRUSTED if trusted else ".") / f"{name}.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Identity(key_file, certificate_file, str(folder / TRUSTED / "*.pem"))
