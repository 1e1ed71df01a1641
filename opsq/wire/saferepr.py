"""A repr for people that never raises and never grows: for ``argsrepr``, events and logs.

A plain ``repr`` of a task's arguments can be megabytes, can run a user's ``__repr__`` that raises,
and can recurse without end; none of these may fail a publish.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

_ATOMS = frozenset({int, float, bool, type(None)})
_SHORT_TEXT = 64
_FEW = 12
_MANY = 100
_SIZED = (dict, list, tuple, set, frozenset, deque, str, bytes, bytearray)
_CUT = "..."
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    dict: ("{", "}"),
}


def saferepr(value: object, maxlen: int = 1024, maxlevels: int = 3) -> str:
    """Return a repr of at most ``maxlen`` characters and ``maxlevels`` nested containers; never raises."""
    if not value and type(value) in _BRACKETS:
        return repr(value)[:maxlen]
    if _is_small(value):
        text = repr(value)
        if len(text) <= maxlen:
            return text
    writer = _Writer(maxlen)
    writer.write(value, maxlevels)
    return writer.text()


def _is_small(value: Any) -> bool:
    """Whether a plain ``repr`` is short and harmless: the usual arguments of a task."""
    kind = type(value)
    if kind is tuple or kind is list:
        parts: Iterable[Any] = value
    elif kind is dict:
        parts = [*value, *value.values()] if len(value) <= _FEW else value
    else:
        return False
    if len(value) > _FEW:
        return False
    for part in parts:
        part_kind = type(part)
        if part_kind is str:
            if len(part) > _SHORT_TEXT:
                return False
        elif part_kind is int:
            if part.bit_length() > 256:
                return False
        elif part_kind not in _ATOMS:
            return False
    return True


class _Writer:
    """Collects pieces until the length is used up."""

    def __init__(self, maxlen: int) -> None:
        self._maxlen = maxlen
        self._left = maxlen
        self._pieces: list[str] = []
        self._open: set[int] = set()

    def text(self) -> str:
        """What was written, cut to the length."""
        whole = "".join(self._pieces)
        if len(whole) <= self._maxlen:
            return whole
        return whole[: max(self._maxlen - len(_CUT), 0)] + _CUT[: self._maxlen]

    def put(self, piece: str) -> None:
        """Append a piece."""
        self._pieces.append(piece)
        self._left -= len(piece)

    def write(self, value: Any, levels: int) -> None:
        """Append the repr of ``value``, going at most ``levels`` containers deep."""
        brackets = _BRACKETS.get(type(value))
        if brackets is None:
            self.put(_atom(value, max(self._left, 0)))
            return
        start, end = brackets
        if not value:
            self.put(repr(value))
        elif levels <= 0 or id(value) in self._open:
            self.put(f"{start}{_CUT}{end}")
        else:
            self._open.add(id(value))
            self.put(start)
            self._write_parts(value, levels - 1)
            self.put(",)" if type(value) is tuple and len(value) == 1 else end)
            self._open.discard(id(value))

    def _write_parts(self, value: Any, levels: int) -> None:
        try:
            self._write_each(value, levels)
        except RuntimeError:
            # Another thread changed the container while it was read.
            self.put(_CUT)

    def _write_each(self, value: Any, levels: int) -> None:
        mapping = type(value) is dict
        for index, part in enumerate(value):
            if index:
                self.put(", ")
            if self._left <= 0:
                self.put(_CUT)
                return
            self.write(part, levels)
            if mapping:
                self.put(": ")
                self.write(value.get(part), levels)


def _atom(value: Any, room: int) -> str:
    if type(value) is str or type(value) is bytes:
        return repr(value) if len(value) <= room else f"{repr(value[:room])[:-1]}{_CUT}'"
    if type(value) is int and value.bit_length() > 4096:
        return f"<int of {value.bit_length()} bits>"
    # A plain repr of these (OrderedDict, deque, a list subclass) would write out every element first.
    if isinstance(value, _SIZED) and len(value) > _MANY:
        return f"<{type(value).__name__} of {len(value)}>"
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  # boundary: a user's __repr__ may raise anything
        return f"<unrepresentable {type(value).__name__}: {type(error).__name__}>"
    return text if len(text) <= room + len(_CUT) else text[:room] + _CUT
