"""Passwords and tokens as they are kept: never as they were typed.

Passwords are stretched by scrypt, because people choose them; tokens are 32 random bytes, so one round of SHA-256
is as good. Every comparison takes the same time whether the text is right or wrong.
Source: RFC 7914 (scrypt); the cost is OWASP's second choice for it, 16 MiB.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

_N: Final = 1 << 14
_R: Final = 8
_P: Final = 5
_LARGEST_N: Final = 1 << 20
_MEMORY_BYTES: Final = 256 * 1024 * 1024
_BYTES: Final = 32
TOKEN_PREFIX: Final = "opsq_"


def hash_password(password: str, n: int = _N) -> str:
    """Stretch a password into the text that is kept: ``scrypt$N$r$p$salt$key``. Takes about 0.2 s on purpose."""
    salt = secrets.token_bytes(16)
    return f"scrypt${n}${_R}${_P}${_text(salt)}${_text(_stretch(password, salt, n, _R, _P))}"


def decoy() -> str:
    """Make a kept text that no password fits, as costly to check as a real one."""
    return f"scrypt${_N}${_R}${_P}${_text(secrets.token_bytes(16))}${_text(secrets.token_bytes(_BYTES))}"


def password_fits(password: str, kept: str) -> bool:
    """Tell whether a password is the kept one. A kept text that cannot be read fits nothing."""
    parsed = _parse(kept)
    if parsed is None:
        return False
    n, r, p, salt, key = parsed
    return hmac.compare_digest(_stretch(password, salt, n, r, p), key)


def readable(kept: str) -> bool:
    """Tell whether a kept text is one that ``hash_password`` could have made."""
    return _parse(kept) is not None


def new_token() -> tuple[str, str]:
    """Make a token. Returns: what its owner sends, shown once; and what is kept."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(_BYTES)
    return token, hash_token(token)


def hash_token(token: str) -> str:
    """Make the text that is kept of a token: ``sha256$hex``."""
    return "sha256$" + hashlib.sha256(token.encode()).hexdigest()


def _stretch(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_BYTES, dklen=_BYTES)


def _parse(kept: str) -> tuple[int, int, int, bytes, bytes] | None:
    parts = kept.split("$")
    if len(parts) != 6 or parts[0] != "scrypt" or not all(part.isdecimal() for part in parts[1:4]):
        return None
    n, r, p = (int(part) for part in parts[1:4])
    # A power of two within bounds: a file with a huge cost would otherwise stop the page at every sign-in.
    if not (
        2 <= n <= _LARGEST_N and n & (n - 1) == 0 and 1 <= r <= 32 and 1 <= p <= 16 and 128 * n * r < _MEMORY_BYTES
    ):
        return None
    try:
        salt, key = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts[4:])
    except (binascii.Error, ValueError):
        return None
    return (n, r, p, salt, key) if salt and len(key) == _BYTES else None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
