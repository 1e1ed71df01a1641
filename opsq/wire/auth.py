"""Signed messages: the envelope of Celery's ``auth`` serializer, given somebody who signs and verifies.

The signature covers the body only; headers (task name, id, times) are as open to change as ever.
Source: Celery protocol, section "auth serializer envelope".
"""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

from msgspec import Struct

from opsq.errors import MalformedMessage
from opsq.wire.content import AUTH, ContentRegistry, Serializer, dumps, loads
from opsq.wire.limits import Limits

SEPARATOR = b"\x00\x01"


class Signer(Protocol):
    """Signs in one name. id: what receivers look our certificate up by."""

    id: str

    def sign(self, body: bytes) -> bytes:
        """Return the signature of ``body``."""
        ...


class Verifier(Protocol):
    """Knows who is trusted."""

    def verify(self, signer: str, body: bytes, signature: bytes) -> None:
        """Return when ``signer`` is trusted and signed ``body``. Raises: UntrustedSignature."""
        ...


class Envelope(Struct, frozen=True):
    """A serialised body and who vouches for it. content_type, content_encoding: those of ``body``."""

    signer: str
    signature: bytes
    content_type: str
    content_encoding: str
    body: bytes


def pack(envelope: Envelope) -> bytes:
    """Write an envelope as the base64 text that goes on the wire."""
    fields = (
        base64.b64encode(envelope.signer.encode()),
        base64.b64encode(envelope.signature),
        envelope.content_type.encode("ascii"),
        envelope.content_encoding.encode("ascii"),
        envelope.body,
    )
    return base64.b64encode(SEPARATOR.join(fields))


def unpack(data: bytes) -> Envelope:
    """Read what ``pack`` or Celery wrote. Raises: MalformedMessage, and nothing else."""
    try:
        fields = base64.b64decode(data, validate=True).split(SEPARATOR, 4)
        if len(fields) != 5:
            raise MalformedMessage(f"a signed body has 5 parts, got {len(fields)}")
        signer, signature, content_type, content_encoding, body = fields
        return Envelope(
            signer=base64.b64decode(signer, validate=True).decode(),
            signature=base64.b64decode(signature, validate=True),
            content_type=content_type.decode("ascii"),
            content_encoding=content_encoding.decode("ascii"),
            body=body,
        )
    except (binascii.Error, UnicodeDecodeError) as error:
        raise MalformedMessage(f"expected a signed body in base64: {error}") from None


def auth_serializer(
    signer: Signer, verifier: Verifier, inner: str, accept: frozenset[str], registry: ContentRegistry
) -> Serializer:
    """Build the serializer ``auth``.

    inner: the serializer of what is signed. accept: MIME types that a signed body of a peer may
    have; the signature is verified before its type is looked at. registry: reads and writes these.
    """

    def write(value: object) -> bytes:
        body, content_type, content_encoding = dumps(value, inner, registry)
        return pack(Envelope(signer.id, signer.sign(body), content_type, content_encoding, body))

    def read(data: bytes, limits: Limits) -> object:
        envelope = unpack(data)
        verifier.verify(envelope.signer, envelope.body, envelope.signature)
        return loads(
            envelope.body,
            envelope.content_type,
            envelope.content_encoding,
            accept=accept,
            limits=limits,
            registry=registry,
        )

    return Serializer(AUTH.name, AUTH.mime, AUTH.encoding, write, read)
