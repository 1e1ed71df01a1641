"""The search line cut into pieces: words, phrases, fields with their values, operators. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple


class Token(NamedTuple):
    """A piece of the line. kind: ``(``, ``)``, ``-``, ``and``, ``or``, ``not`` or ``term``.

    value: of a term, without quotes and escapes. field: what stands before its colon, empty for a word.
    """

    kind: str
    start: int
    end: int
    field: str = ""
    value: str = ""
    quoted: bool = False


_OPERATORS: Final = {"AND": "and", "OR": "or", "NOT": "not"}


def tokens_of(line: str) -> Iterator[Token]:
    """Cut a line into tokens; blanks between them are left out. Never raises."""
    position = 0
    while position < len(line):
        letter = line[position]
        if letter.isspace():
            position += 1
        elif letter in "()":
            yield Token(letter, position, position + 1)
            position += 1
        elif letter == "-" and position + 1 < len(line) and not line[position + 1].isspace():
            yield Token("-", position, position + 1)
            position += 1
        else:
            token = _term(line, position)
            yield token
            position = token.end


def _term(line: str, start: int) -> Token:
    end = start
    while end < len(line) and (line[end].isascii() and (line[end].isalpha() or line[end] == "_")):
        end += 1
    if end > start and line[end : end + 1] == ":":
        value, stop, quoted = _value(line, end + 1)
        return Token("term", start, stop, line[start:end], value, quoted)
    value, stop, quoted = _value(line, start)
    if not quoted and value in _OPERATORS:
        return Token(_OPERATORS[value], start, stop)
    return Token("term", start, stop, "", value, quoted)


def _value(line: str, start: int) -> tuple[str, int, bool]:
    if line[start : start + 1] == '"':
        return _quoted(line, start)
    end, open_here = start, 0
    while end < len(line) and not line[end].isspace():
        # A parenthesis that the word itself opened belongs to it, as in ``pay(1)``; any other ends it.
        if line[end] == "(":
            open_here += 1
        elif line[end] == ")":
            if not open_here:
                break
            open_here -= 1
        end += 1
    return line[start:end], end, False


def _quoted(line: str, start: int) -> tuple[str, int, bool]:
    letters = []
    position = start + 1
    while position < len(line) and line[position] != '"':
        if line[position] == "\\" and position + 1 < len(line):
            position += 1
        letters.append(line[position])
        position += 1
    return "".join(letters), min(position + 1, len(line)), True
