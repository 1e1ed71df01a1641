"""Keys and certificates for signed messages, by ``cryptography``; imported when an app signs.

RSA with PSS padding, as Celery: other keys are refused. No key, password or signature is ever logged
or put into an error.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opsq.errors import ConfigError, Fault, UntrustedSignature


class KeySigner:
    """Signs with a private key. Thread: any; usable in a forked child.

    id: that of the certificate that belongs to the key.
    """

    def __init__(self, key: rsa.RSAPrivateKey, certificate: x509.Certificate, digest: hashes.HashAlgorithm) -> None:
        self.id = certificate_id(certificate)
        self._key = key
        self._digest = digest

    def sign(self, body: bytes) -> bytes:
        """Return the signature of ``body``."""
        return self._key.sign(body, _padding(self._digest), self._digest)


class CertificateStore:
    """The certificates that are trusted, by id. Thread: any. now: epoch seconds, for expiry."""

    def __init__(
        self, certificates: dict[str, x509.Certificate], digest: hashes.HashAlgorithm, now: Callable[[], float]
    ) -> None:
        self._certificates = certificates
        self._digest = digest
        self._now = now

    def verify(self, signer: str, body: bytes, signature: bytes) -> None:
        """Return when ``signer`` is trusted today and signed ``body``. Raises: UntrustedSignature."""
        certificate = self._certificates.get(signer)
        if certificate is None:
            raise UntrustedSignature(f"signed by {signer[:200]!r}, whose certificate is not in security_cert_store")
        if has_expired(certificate, self._now()):
            raise UntrustedSignature(f"signed by {signer!r}, whose certificate expired on {_last_day(certificate)}")
        key = certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)  # looked at when the store was read
        try:
            key.verify(signature, body, _padding(self._digest), self._digest)
        except InvalidSignature:
            raise UntrustedSignature(
                f"the signature of {signer!r} does not fit: the body was changed on its way, or signed with another "
                f"key or digest than {self._digest.name}"
            ) from None


def load_signer(key: str, password: str | None, certificate: str, digest: str, now: float) -> KeySigner:
    """Read our own key and certificate from their files. Raises: ConfigError with every fault."""
    faults: list[Fault] = []
    private = _private_key(key, password, faults)
    own = _certificate(certificate, "security_certificate", faults)
    algorithm = digest_of(digest, faults)
    if own is not None and has_expired(own, now):
        faults.append(Fault(f"the certificate {certificate} expired on {_last_day(own)}", "security_certificate"))
    if private is not None and own is not None and private.public_key() != own.public_key():
        faults.append(Fault(f"the key {key} does not belong to the certificate {certificate}", "security_key"))
    if faults or private is None or own is None or algorithm is None:
        raise ConfigError(faults)
    return KeySigner(private, own, algorithm)


def load_store(place: str, digest: str, now: Callable[[], float]) -> CertificateStore:
    """Read the trusted certificates from a folder or a glob. Raises: ConfigError with every fault."""
    faults: list[Fault] = []
    found: dict[str, x509.Certificate] = {}
    paths = sorted(glob.glob(os.path.join(place, "*") if os.path.isdir(place) else place))
    if not paths:
        faults.append(Fault(f"no file matches {place}, so nobody is trusted", "security_cert_store"))
    for path in paths:
        certificate = _certificate(path, "security_cert_store", faults)
        if certificate is None:
            continue
        id = certificate_id(certificate)
        if has_expired(certificate, now()):
            faults.append(Fault(f"the certificate {path} expired on {_last_day(certificate)}", "security_cert_store"))
        elif id in found:
            faults.append(Fault(f"{path} holds a certificate that another file holds: {id!r}", "security_cert_store"))
        found[id] = certificate
    algorithm = digest_of(digest, faults)
    if faults or algorithm is None:
        raise ConfigError(faults)
    return CertificateStore(found, algorithm, now)


def certificate_id(certificate: x509.Certificate) -> str:
    """What a signature names its certificate by: values of the issuer, then the serial number."""
    issuer = " ".join(str(attribute.value) for attribute in certificate.issuer)
    return f"{issuer} {certificate.serial_number}"


def has_expired(certificate: x509.Certificate, now: float) -> bool:
    """Whether a certificate's last moment has passed at ``now`` (epoch seconds)."""
    return now >= certificate.not_valid_after_utc.timestamp()


def digest_of(name: str, faults: list[Fault]) -> hashes.HashAlgorithm | None:
    """The digest called ``name``, such as ``sha256``; a fault and None when there is none."""
    algorithm = getattr(hashes, name.upper(), None)
    if isinstance(algorithm, type) and issubclass(algorithm, hashes.HashAlgorithm):
        try:
            return algorithm()
        except TypeError:  # those of variable length
            pass
    faults.append(Fault(f"expected a digest such as sha256, got {name!r}", "security_digest"))
    return None


def _padding(digest: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.MAX_LENGTH)


def _last_day(certificate: x509.Certificate) -> str:
    return certificate.not_valid_after_utc.date().isoformat()


def _read(path: str, origin: str, faults: list[Fault]) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        faults.append(Fault(f"{path} cannot be read: {error.strerror}", origin))
        return None


def _private_key(path: str, password: str | None, faults: list[Fault]) -> rsa.RSAPrivateKey | None:
    data = _read(path, "security_key", faults)
    if data is None:
        return None
    try:
        key = serialization.load_pem_private_key(data, password.encode() if password else None)
    except TypeError:
        wanted = "has a password and security_key_password is missing" if not password else "has no password"
        faults.append(Fault(f"the key {path} {wanted}", "security_key_password"))
        return None
    except (ValueError, UnsupportedAlgorithm):
        # What the library says is left out: it may quote the file.
        faults.append(Fault(f"{path} is no private key in PEM form, or the password is wrong", "security_key"))
        return None
    if not isinstance(key, rsa.RSAPrivateKey):
        faults.append(Fault(f"the key {path} must be an RSA key", "security_key"))
        return None
    return key


def _certificate(path: str, origin: str, faults: list[Fault]) -> x509.Certificate | None:
    data = _read(path, origin, faults)
    if data is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(data)
        if isinstance(certificate.public_key(), rsa.RSAPublicKey):
            return certificate
        faults.append(Fault(f"the certificate {path} must hold an RSA key", origin))
    except (ValueError, UnsupportedAlgorithm):
        faults.append(Fault(f"{path} is no X.509 certificate in PEM form", origin))
    return None
