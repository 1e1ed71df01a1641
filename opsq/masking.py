"""Keep secrets out of everything that is printed: a type for values, a rule for URLs and tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MASK: Final = "***"
TELLING_WORDS: Final = (
    "password", "passwd", "passphrase", "secret", "token", "credential", "access_key", "account_key", "api_key",
    "private_key", "accountkey", "sharedaccesskey",
)  # fmt: skip


class Secret:
    """A value that is never shown: ``str``, ``repr`` and logs give ``***``; ``reveal()`` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the real value; hand it to a client library, never to a log."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)


def mask(value: object) -> object:
    """Return a copy of ``value`` with passwords in URLs and under telling keys starred, at any depth."""
    if isinstance(value, str):
        return mask_url(value) if "://" in value else value
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, Mapping):
        return {key: MASK if _telling(str(key)) and item is not None else mask(item) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item) for item in value]
    if isinstance(value, tuple):
        return tuple(mask(item) for item in value)
    return value


def mask_url(text: str) -> str:
    """Star what may be secret in a URL, or in several joined by ``;``.

    Errs on the side of hiding: user information without a colon is starred whole (it may be a
    token), and a password with an unescaped ``/``, ``;`` or ``@`` in it is still hidden.
    """
    parts: list[str] = []
    for piece in text.split(";"):
        if parts and "://" not in piece:
            parts[-1] += ";" + piece
        else:
            parts.append(piece)
    return ";".join(_mask_one_url(part) for part in parts)


def _mask_one_url(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    rest, question, query = rest.partition("?")
    if "@" in query and "@" not in rest:  # an unescaped ? inside a password
        rest, question, query = f"{rest}?{query}", "", ""
    info, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = info.partition(":")
        rest = f"{user}:{MASK}@{place}" if colon else f"{MASK}@{place}"
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    query = "&".join(name + eq + (MASK if _telling(name) else value) for name, eq, value in pairs)
    return scheme + mark + rest + question + query


def _telling(name: str) -> bool:
    lowered = name.lower().replace("-", "_")
    return any(word in lowered for word in TELLING_WORDS)
