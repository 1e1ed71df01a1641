"""The arguments of remote commands: checked as they came by the wire, read as they were typed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opsq.control.commands import Argument, Command
from opsq.errors import UsageError

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "time": (int, float),
    "flag": (bool,),
    "rate": (str, int, float),
    "texts": (str, list, tuple),
}


def checked(command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for a handler, defaults filled in.

    Raises: TypeError in Python's words, as a Celery worker answers it.
    """
    known = {argument.name: argument for argument in command.arguments}
    for name in given:
        if name not in known and not command.open:
            raise TypeError(f"{command.name}() got an unexpected keyword argument {name!r}")
    missing = [name for name, each in known.items() if each.required and name not in given]
    if missing:
        raise TypeError(f"{command.name}() missing required argument: {', '.join(map(repr, missing))}")
    values = {name: given.get(name, each.default) for name, each in known.items()}
    for name, each in known.items():
        if each.kind == "flag" and values[name] in (0, 1):
            values[name] = bool(values[name])  # Flower says them as numbers
    for name, each in known.items():
        _check_type(command, each, values[name])
    return {**given, **values}


def _check_type(command: Command, argument: Argument, value: Any) -> None:
    if argument.kind == "any" or value is None:
        return
    right = isinstance(value, _TYPES[argument.kind])
    if isinstance(value, bool) and argument.kind in ("integer", "number", "time", "rate"):
        right = False
    if right and argument.kind == "time":
        right = math.isfinite(value) and value > 0
    if isinstance(value, (list, tuple)):
        right = right and all(isinstance(each, str) for each in value)
    if not right:
        wanted = "text or list of texts" if argument.kind == "texts" else argument.kind
        raise TypeError(f"{command.name}() argument {argument.name!r}: expected {wanted}, got {value!r:.100}")


def from_words(command: Command, words: Sequence[str]) -> dict[str, Any]:
    """Read a command's arguments as typed: by position, or as ``name=value``.

    Raises: UsageError that says what was expected.
    """
    known = {argument.name: argument for argument in command.arguments}
    found: dict[str, Any] = {}
    waiting = list(command.in_words())
    headers: list[str] = []
    for word in words:
        name, equals, text = word.partition("=")
        if command.name == "revoke_by_stamped_headers" and name not in ("terminate", "signal"):
            headers.append(word)
        elif equals and name in known:
            found[name] = _value(command, known[name], text)
        else:
            _take_word(command, waiting, found, word)
    if headers:
        found["headers"] = headers
    missing = [name for name, each in known.items() if each.required and name not in found]
    if missing:
        raise UsageError(f"{command.name} needs {', '.join(missing)}; write: {command.usage()}")
    return found


def _take_word(command: Command, waiting: list[Argument], found: dict[str, Any], word: str) -> None:
    while waiting and waiting[0].name in found and waiting[0].kind != "texts":
        waiting.pop(0)
    if not waiting:
        raise UsageError(f"{command.name}: did not expect {word!r}; write: {command.usage()}")
    argument = waiting[0]
    if argument.kind == "texts":
        found.setdefault(argument.name, []).append(word)
    else:
        found[argument.name] = _value(command, waiting.pop(0), word)


def _value(command: Command, argument: Argument, text: str) -> Any:
    try:
        if argument.kind == "integer":
            return int(text)
        if argument.kind == "number":
            return float(text)
        if argument.kind == "time":
            return seconds(text)
    except ValueError:
        wanted = "a time such as 90s, 5m, 2h" if argument.kind == "time" else argument.kind
        raise UsageError(f"{command.name}: {argument.name}: expected {wanted}, got {text!r}") from None
    if argument.kind == "flag":
        if text.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
            raise UsageError(f"{command.name}: {argument.name}: expected true or false, got {text!r}")
        return text.lower() in ("1", "true", "yes", "on")
    if argument.kind == "texts":
        return [part for part in text.split(",") if part]
    return text


_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?")
_UNITS_S: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def seconds(text: str) -> float:
    """Read a length of time: ``90``, ``90s``, ``5m``, ``2h``, ``1h30m``, ``1d``. Raises: ValueError."""
    rest, total = text.strip().lower().replace(" ", ""), 0.0
    while rest:
        match = _SPAN.match(rest)
        if match is None or (match[2] is None and (total or match.end() < len(rest))):
            raise ValueError(text)
        total += float(match[1]) * _UNITS_S[match[2] or "s"]
        rest = rest[match.end() :]
    if not total > 0:
        raise ValueError(text)
    return total
