"""What a program prints becomes lines of its log, so that they say which task they belong to.

Logger ``stdout`` or ``stderr``, after the stream. A line is logged when it is whole, or flushed.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, TextIO, cast

_LONGEST_LINE: Final = 16_384


@contextmanager
def redirect_output(level: str = "WARNING") -> Iterator[None]:
    """Turn what is printed, to standard output and error, into log lines until the block ends."""
    before = sys.stdout, sys.stderr
    take_output(level)
    ours = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for each in ours:
            each.flush()


def take_output(level: str = "WARNING") -> None:
    """Turn what is printed into log lines from now on. After the log is set up, which then keeps its own stream."""
    number, logging_now = logging.getLevelNamesMapping()[level.upper()], _LoggingNow()
    sys.stdout = cast("TextIO", _LineLogger("stdout", number, sys.stdout, logging_now))
    sys.stderr = cast("TextIO", _LineLogger("stderr", number, sys.stderr, logging_now))


class _LoggingNow(threading.local):
    """Whether this thread is logging what was printed: what a handler prints then is not logged in turn."""

    so = False


class _Rest(threading.local):
    """What this thread has printed of a line without its end."""

    text = ""


class _LineLogger(io.TextIOBase):
    """A stream whose lines become log records of the thread that wrote them.

    original: what it stands for; it gets what goes around ``write``: bytes, and the output of other programs.
    """

    def __init__(self, logger: str, level: int, original: TextIO, logging_now: _LoggingNow) -> None:
        super().__init__()
        self._logger = logging.getLogger(logger)
        self._level = level
        self._original = original
        self._logging_now = logging_now
        self._rest = _Rest()

    @property
    def buffer(self) -> BinaryIO:
        """For bytes, which are not logged."""
        return self._original.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream it stands for."""
        return self._original.encoding

    def fileno(self) -> int:
        """That of the stream it stands for, so that other programs may be given it."""
        return self._original.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Log every line of ``text`` that is whole and not empty; keep the rest until its end comes."""
        if self._logging_now.so:
            return self._original.write(text)
        *whole, rest = (self._rest.text + text).split("\n")
        if len(rest) > _LONGEST_LINE:
            whole, rest = [*whole, rest], ""
        self._rest.text = rest
        self._log(whole)
        return len(text)

    def flush(self) -> None:
        """Log what has no end yet, of this thread."""
        if self._logging_now.so:
            return
        rest, self._rest.text = self._rest.text, ""
        self._log([rest])

    def _log(self, lines: list[str]) -> None:
        self._logging_now.so = True
        try:
            for line in lines:
                if line.strip():
                    self._logger.log(self._level, "%s", line.rstrip())
        finally:
            self._logging_now.so = False
