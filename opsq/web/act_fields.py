"""What an act asks for besides its target: read from a form's text or a program's JSON, checked, every fault named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from opsq.control.arguments import seconds

LONGEST_TEXT: Final = 1_000
LONGEST_JSON: Final = 200_000


@dataclass(frozen=True, slots=True)
class Field:
    """One field. kind: ``text``, ``integer``, ``number``, ``time`` (seconds, or 90s, 5m, 2h), ``choice``, ``flag``,
    ``list`` or ``object`` (JSON). least, most: bounds of a number. private: its value is not written into the audit.
    """

    name: str
    kind: str
    label: str
    doc: str = ""
    required: bool = True
    default: Any = None
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = math.inf
    private: bool = False


class WrongField(Exception):
    """Fields that cannot be taken. faults: by name of the field, in words."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in faults.items()))
        self.faults = faults


def read_fields(fields: Sequence[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """Read what was given; defaults filled in. Raises WrongField naming every fault."""
    values: dict[str, Any] = {}
    faults = {name: "is not asked for here" for name in given if name not in {field.name for field in fields}}
    for field in fields:
        raw = given.get(field.name)
        if raw is None or raw == "":
            if field.required and field.default is None:
                faults[field.name] = "is needed"
            values[field.name] = field.default
            continue
        try:
            values[field.name] = _READERS[field.kind](field, raw)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            faults[field.name] = str(error) or f"expected {field.kind}"
    if faults:
        raise WrongField(faults)
    return values


def _text(field: Field, raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("expected text")
    text = raw.strip()
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"expected at most {LONGEST_TEXT} letters")
    if not text or not text.isprintable():
        raise ValueError("expected text that can be printed")
    return text


def _choice(field: Field, raw: Any) -> str:
    text = _text(field, raw)
    if text not in field.choices:
        raise ValueError(f"expected one of {', '.join(field.choices)}")
    return text


def _integer(field: Field, raw: Any) -> int:
    number = _number(field, raw)
    if number != int(number):
        raise ValueError("expected a whole number")
    return int(number)


def _number(field: Field, raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError("expected a number")
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        raise ValueError("expected a number") from None
    return _bounded(field, number)


def _time(field: Field, raw: Any) -> float:
    if isinstance(raw, str):
        try:
            return _bounded(field, seconds(raw[:40]))
        except (ValueError, OverflowError):
            raise ValueError("expected a time such as 90s, 5m or 2h") from None
    return _number(field, raw)


def _bounded(field: Field, number: float) -> float:
    if not math.isfinite(number) or not field.least <= number <= field.most:
        upper = f" and at most {field.most:g}" if math.isfinite(field.most) else ""
        raise ValueError(f"expected at least {field.least:g}{upper}")
    return number


def _flag(field: Field, raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        return raw.lower() in ("1", "true", "yes", "on")
    raise ValueError("expected yes or no")


def _list(field: Field, raw: Any) -> list[Any]:
    value = _decoded(raw)
    if not isinstance(value, list):
        raise ValueError('expected a JSON list, such as [1, "two"]')
    return value


def _object(field: Field, raw: Any) -> dict[str, Any]:
    value = _decoded(raw)
    if not isinstance(value, dict):
        raise ValueError('expected a JSON object, such as {"size": 320}')
    return value


def _decoded(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    if len(raw) > LONGEST_JSON:
        raise ValueError(f"expected at most {LONGEST_JSON} letters")
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise ValueError(f"cannot be read as JSON: {error}") from error


_READERS: Final = {
    "text": _text, "choice": _choice, "integer": _integer, "number": _number, "time": _time, "flag": _flag,
    "list": _list, "object": _object,
}  # fmt: skip
