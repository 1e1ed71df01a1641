"""Keys of a terminal, one at a time and without waiting."""

from __future__ import annotations

import os
import select
import termios
import tty
from types import TracebackType
from typing import Final, Self, TextIO

_NAMED: Final = {
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x1b": "esc",
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
}


class Keys:
    """Reads keys for the length of its ``with`` block; the terminal is then as it was. Ctrl-C stays a signal."""

    def __init__(self, source: TextIO) -> None:
        self._fd = source.fileno()
        self._before: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def pressed(self) -> list[str]:
        """The keys pressed since the last call: a character, or a name such as ``up`` and ``enter``."""
        if not select.select([self._fd], [], [], 0)[0]:
            return []
        data = os.read(self._fd, 1024).decode(errors="replace")
        return split(data) if data else ["q"]  # the terminal is gone


def split(data: str) -> list[str]:
    """Cut what a terminal sent into keys."""
    keys, at = [], 0
    while at < len(data):
        size = 3 if data.startswith(("\x1b[", "\x1bO"), at) else 1
        part = data[at : at + size]
        at += size
        name = _NAMED.get(part)
        if name is not None:
            keys.append(name)
        elif size == 1 and part.isprintable():
            keys.append(part)
    return keys
