"""A traceback, line by line: whose frame it is, and where our own code last stood. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_LINES: Final = 400
_FRAME: Final = re.compile(r'^\s+File "(?P<file>[^"]*)", line \d+')
_HEADINGS: Final = ("Traceback", "During handling", "The above exception")
_LIBRARY: Final = re.compile(r"site-packages|dist-packages|/lib/python\d|<frozen |/opsq/core/|/celery/app/|<string>")


@dataclass(frozen=True, slots=True)
class CodeLine:
    """One line of a traceback. css: ``lib``, ``own``, ``hit`` (our last frame) or ``err`` (the exception)."""

    css: str
    text: str


def traceback_lines(text: str) -> tuple[CodeLine, ...]:
    """Mark each line; a very long traceback keeps its beginning and its end, and says how much is left out."""
    lines = text.rstrip().splitlines()
    if len(lines) > MAX_LINES:
        left_out = len(lines) - MAX_LINES
        half = MAX_LINES // 2
        lines = [*lines[:half], f"  … {left_out} lines left out …", *lines[-half:]]
    return tuple(CodeLine(css, line) for css, line in zip(_marks(lines), lines, strict=True))


def _marks(lines: list[str]) -> list[str]:
    """Mark lines by whose frame they belong to; our own last frame of the traceback is the hit."""
    marks: list[str] = []
    inside, hit_from = "lib", -1
    for line in lines:
        frame = _FRAME.match(line)
        if frame:
            inside = "lib" if _LIBRARY.search(frame["file"]) else "own"
            hit_from = len(marks) if inside == "own" else hit_from
        elif not line.startswith((" ", "\t")):
            inside = "lib" if not line or line.startswith(_HEADINGS) else "err"
        marks.append(inside)
    if hit_from >= 0:
        after = range(hit_from + 1, len(marks))
        end = next((i for i in after if _FRAME.match(lines[i]) or marks[i] != "own"), len(marks))
        marks[hit_from:end] = ["hit"] * (end - hit_from)
    return marks
