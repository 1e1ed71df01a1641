"""What events show of a call's arguments: JSON with secrets taken out, bounded, and honest about both. Pure.

The usual call costs a microsecond: its arguments are cut out of the message's body as they are, and only looked at
closely when a name that means a secret occurs in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from opsq.wire.saferepr import saferepr

FULL, REPR, NONE = "full", "repr", "none"
REDACTED: Final = "[redacted]"
_REPR_CHARS: Final = 1024
_DEEPEST: Final = 50
_BARE_BYTES: Final = len('{"args":[],"kwargs":{}}')
_parts = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Shown(Struct, frozen=True):
    """What an event says of arguments.

    args, kwargs: their reprs. payload: ``{"args": […], "kwargs": {…}}`` as JSON text, ``None`` where there is none.
    complete: whether the payload is the whole of them, unchanged: only then may a call be made of it again.
    """

    args: str | None
    kwargs: str | None
    payload: str | None = None
    complete: bool | None = None


def shown_fields(shown: Shown) -> dict[str, Any]:
    """The fields of an event that say it; ours only where there is a payload."""
    fields: dict[str, Any] = {"args": shown.args, "kwargs": shown.kwargs}
    if shown.payload is not None:
        fields["payload"], fields["complete"] = shown.payload, shown.complete
    return fields


class Rule(Struct, frozen=True):
    """How much of the calls of one task is shown. secret, words: what the name of a secret contains; positions: of
    positional arguments that have such a name."""

    mode: str
    max_bytes: int
    secret: re.Pattern[str] | None
    words: tuple[bytes, ...] = ()
    positions: frozenset[int] = frozenset()

    def shown(self, args: str | None, kwargs: str | None, body: bytes | None) -> Shown:
        """What is shown of a call whose message has these reprs and this JSON body (``None`` when it is not JSON)."""
        if self.mode == NONE:
            return Shown(None, None)
        parts = None if body is None else _texts(body)
        if body is None or parts is None:
            return self._by_reprs(args, kwargs)
        if self._may_hide(parts, body):
            return self._redacted(parts, args, kwargs)
        if self.mode != FULL:
            return Shown(args, kwargs)
        payload = f'{{"args":{parts[0]},"kwargs":{parts[1]}}}'
        if _bytes(payload) > self.max_bytes:
            return Shown(args, kwargs, self._cut(_decode(parts[0]), _decode(parts[1])), False)
        return Shown(args, kwargs, payload, True)

    def _may_hide(self, parts: tuple[str, str], body: bytes) -> bool:
        """Whether these arguments need a closer look: quickly, and rather once too often."""
        if self.positions:
            return True
        if parts[1] == "{}" and "{" not in parts[0]:
            return False  # only objects have names
        lowered = body.lower()
        # A name that is escaped in the JSON would be missed here, so an escape is looked at closely too.
        if b"\\u" in lowered:
            return True
        for word in self.words:  # noqa: SIM110  # three times as fast as any() of a generator
            if word in lowered:
                return True
        return False

    def _by_reprs(self, args: str | None, kwargs: str | None) -> Shown:
        """A body that cannot be read here leaves only reprs, of which one that names a secret is left out whole."""
        if self.secret is not None:
            args = REDACTED if args and (self.positions or self.secret.search(args)) else args
            kwargs = REDACTED if kwargs and self.secret.search(kwargs) else kwargs
        return Shown(args, kwargs)

    def _redacted(self, parts: tuple[str, str], args_repr: str | None, kwargs_repr: str | None) -> Shown:
        try:
            args, kwargs = _decode(parts[0]), _decode(parts[1])
            plain = (
                [REDACTED if at in self.positions else self._clean(each, 0) for at, each in enumerate(args)],
                self._clean(kwargs, 0),
            )
        except (msgspec.DecodeError, RecursionError, TypeError):
            return Shown(REDACTED, REDACTED, None, False)
        if plain == (args, kwargs):
            texts = args_repr, kwargs_repr
        else:
            texts = saferepr(tuple(plain[0]), _REPR_CHARS), saferepr(plain[1], _REPR_CHARS)
        if self.mode != FULL:
            return Shown(*texts)
        payload = _encode({"args": plain[0], "kwargs": plain[1]})
        if len(payload) > self.max_bytes:
            return Shown(*texts, self._cut(*plain), False)
        return Shown(*texts, str(payload, "utf-8"), plain == (args, kwargs))

    def _clean(self, value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            return REDACTED
        if isinstance(value, Mapping):
            hides = self.secret.search if self.secret is not None else _hides_nothing
            return {key: REDACTED if hides(str(key)) else self._clean(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list):
            return [self._clean(each, depth + 1) for each in value]
        return value

    def _cut(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """As many of the arguments as there is room for; of the others, how long they are."""
        left = self.max_bytes - _BARE_BYTES
        kept: list[tuple[str | None, Any]] = []
        for name, value in [*((None, each) for each in args), *kwargs.items()]:
            around = 1 if name is None else len(_encode(name)) + 2  # a comma, or a name, a colon and a comma
            size = len(_encode(value))
            if size + around > left // 2:
                value = f"[{size} bytes left out]"
                size = len(value) + 2
            left -= size + around
            if left < 0:
                break
            kept.append((name, value))
        cut = {"args": [v for k, v in kept if k is None], "kwargs": {k: v for k, v in kept if k is not None}}
        return str(_encode(cut), "utf-8")


def _bytes(text: str) -> int:
    """How long it is in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def _hides_nothing(_: str) -> None:
    return None


def _texts(body: bytes) -> tuple[str, str] | None:
    """The JSON of args and of kwargs; ``None`` when the body is not three elements, an array and an object first."""
    try:
        args, kwargs, _ = _parts(body)
        texts = str(args, "utf-8"), str(kwargs, "utf-8")
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return texts if texts[0][:1] == "[" and texts[1][:1] == "{" else None


AS_REPR: Final = Rule(REPR, 0, None)
"""Shows the reprs that the message brought."""


def rule_for(mode: str, max_bytes: int, redact: Iterable[str], parameters: Sequence[str] = ()) -> Rule:
    """The rule for a task. redact: parts of names, in any case. parameters: names of its positional arguments."""
    redact = tuple(redact)
    words = "|".join(re.escape(word) for word in redact if word)
    if not words:
        return Rule(mode, max_bytes, None)
    secret = re.compile(words, re.IGNORECASE)
    positions = frozenset(at for at, name in enumerate(parameters) if secret.search(name))
    return Rule(mode, max_bytes, secret, tuple(word.lower().encode() for word in redact if word), positions)
