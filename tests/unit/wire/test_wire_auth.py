"""The envelope of signed messages: what goes in comes out, and nothing that was touched does."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.errors import ConfigError, MalformedMessage, UntrustedContent, UntrustedSignature
from opsq.wire.auth import Envelope, auth_serializer, pack, unpack
from opsq.wire.content import DEFAULT_REGISTRY, ContentRegistry, accept_set, dumps, loads

AUTH_ONLY = frozenset({"application/data"})


class Seal:
    """Signs with a hash: enough to see what is verified, and when."""

    id = "Ça Autorité 7"

    def sign(self, body: bytes) -> bytes:
        return hashlib.sha256(body).digest()

    def verify(self, signer: str, body: bytes, signature: bytes) -> None:
        if signer != self.id or signature != self.sign(body):
            raise UntrustedSignature("not ours")


def registry(inner: str = "json", accept: tuple[str, ...] = ("json",)) -> ContentRegistry:
    return DEFAULT_REGISTRY.plus(auth_serializer(Seal(), Seal(), inner, accept_set(accept), DEFAULT_REGISTRY))


def test_values_come_back_as_they_were() -> None:
    data, mime, encoding = dumps({"x": [1, "é"]}, "auth", registry())
    assert (mime, encoding) == ("application/data", "utf-8")
    assert loads(data, mime, encoding, accept=AUTH_ONLY, registry=registry()) == {"x": [1, "é"]}


def test_the_layout_is_celerys() -> None:
    data, _, _ = dumps([1], "auth", registry())
    fields = base64.b64decode(data).split(b"\0\1")
    assert [base64.b64decode(field) for field in fields[:2]] == [Seal.id.encode(), hashlib.sha256(b"[1]").digest()]
    assert fields[2:] == [b"application/json", b"utf-8", b"[1]"]


@given(st.builds(Envelope, st.text(), st.binary(), st.just("application/json"), st.just("binary"), st.binary()))
def test_any_body_survives_even_one_with_separators(envelope: Envelope) -> None:
    assert unpack(pack(envelope)) == envelope


@given(st.binary())
def test_any_bytes_are_an_envelope_or_malformed(data: bytes) -> None:
    for each in (data, base64.b64encode(data)):
        with suppress(MalformedMessage):
            unpack(each)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_body_that_was_touched_anywhere_is_refused(place: int, change: int) -> None:
    data, mime, encoding = dumps(["pay", 10], "auth", registry())
    plain = bytearray(base64.b64decode(data))
    start = plain.rindex(b"\0\1") + 2
    plain[start + place % (len(plain) - start)] ^= change
    with pytest.raises((UntrustedSignature, MalformedMessage)):
        loads(base64.b64encode(plain), mime, encoding, accept=AUTH_ONLY, registry=registry())


def test_what_is_signed_must_be_of_an_accepted_type_too() -> None:
    data, mime, encoding = dumps([1], "auth", registry("pickle", ("pickle",)))
    with pytest.raises(UntrustedContent, match="application/x-python-serialize"):
        loads(data, mime, encoding, accept=AUTH_ONLY, registry=registry())
    assert loads(data, mime, encoding, accept=AUTH_ONLY, registry=registry("pickle", ("pickle",))) == [1]


def test_without_keys_the_name_says_what_is_missing() -> None:
    for use in (lambda: dumps([1], "auth"), lambda: accept_set(["auth"])):
        with pytest.raises(ConfigError, match=r"call app\.setup_security"):
            use()
