"""The cookie of somebody who signed in: a name and a time, signed. Nothing is kept on the server.

The signature covers the kept password, so a new password, or a user taken away, ends every session of theirs at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

_VERSION: Final = 1
_LONGEST: Final = 512
_KEY_BYTES: Final = 32


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """What a cookie says. issued_at: epoch seconds."""

    version: int
    user: str
    issued_at: float


class Sessions:
    """Writes and reads cookies. key: secret bytes, the same on every monitor behind one name. Thread: any."""

    def __init__(self, key: bytes, lasts_s: float) -> None:
        self._key = hashlib.sha256(b"opsq session" + key).digest()
        self.lasts_s = lasts_s

    def issue(self, user: str, kept_password: str, now: float) -> str:
        """Write the cookie of a user who proved to be them."""
        claim = msgspec.json.encode(Claim(_VERSION, user, now))
        return f"{_text(claim)}.{_text(self._sign(claim, kept_password))}"

    def claim(self, cookie: str) -> Claim | None:
        """Read what a cookie says, without believing it; ``genuine`` decides."""
        head = cookie.partition(".")[0]
        raw = _raw(head) if len(cookie) <= _LONGEST else None
        try:
            return msgspec.json.decode(raw, type=Claim) if raw else None
        except msgspec.DecodeError:
            return None

    def genuine(self, cookie: str, claim: Claim, kept_password: str, now: float) -> bool:
        """Tell whether we wrote the cookie for this user with their present password, and not too long ago."""
        head, _, signature = cookie.partition(".")
        raw, given = _raw(head), _raw(signature)
        if raw is None or given is None or claim.version != _VERSION:
            return False
        fresh = -60.0 <= now - claim.issued_at <= self.lasts_s
        return hmac.compare_digest(self._sign(raw, kept_password), given) and fresh

    def _sign(self, claim: bytes, kept_password: str) -> bytes:
        return hmac.new(self._key, claim + b"\0" + kept_password.encode(), hashlib.sha256).digest()


def keep_key(path: Path) -> bytes:
    """Read the signing key of a data folder, made at the first use, readable by its owner only. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")  # made with mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
            # A link, not a rename: of two monitors that start at once, both must end up with the same key.
            with suppress(FileExistsError):
                os.link(name, path)
        finally:
            Path(name).unlink()
    return path.read_bytes()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(text: str) -> bytes | None:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
