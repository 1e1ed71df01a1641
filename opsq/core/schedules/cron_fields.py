"""One field of a crontab: ``*``, ``5``, ``1-5``, ``*/15``, ``8-18/2``, ``mon-fri``, and lists of these by comma. Pure.

Source: Celery's ``crontab_parser``: a range whose end lies before its beginning goes on past the end of the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from opsq.errors import UsageError

_PART: Final = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\w+))?")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class ParseException(UsageError, ValueError):
    """A crontab that cannot be read."""


class Field(NamedTuple):
    """A field by name, with its least and greatest number and the names of some."""

    name: str
    low: int
    high: int
    names: Mapping[str, int]


_NONE: Final[Mapping[str, int]] = {}
MINUTE: Final = Field("minute", 0, 59, _NONE)
HOUR: Final = Field("hour", 0, 23, _NONE)
DAY_OF_WEEK: Final = Field("day_of_week", 0, 6, {name: number for number, name in enumerate(_DAYS)})
DAY_OF_MONTH: Final = Field("day_of_month", 1, 31, _NONE)
MONTH_OF_YEAR: Final = Field("month_of_year", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)})

NICKNAMES: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def read_field(field: Field, given: Any) -> frozenset[int]:
    """The numbers that a field means: a number, text, or several numbers. Raises: ParseException."""
    if isinstance(given, bool):
        raise ParseException(f"crontab {field.name}: expected a number or text, got {given!r}")
    if isinstance(given, int):
        numbers = frozenset({given})
    elif isinstance(given, str):
        numbers = _read_text(field, given)
    elif isinstance(given, Iterable):
        numbers = frozenset(given)
    else:
        raise ParseException(f"crontab {field.name}: expected a number, text or several numbers, got {given!r}")
    wrong = [number for number in numbers if not isinstance(number, int) or not field.low <= number <= field.high]
    if wrong or not numbers:
        raise ParseException(f"crontab {field.name}: expected numbers from {field.low} to {field.high}, got {given!r}")
    return numbers


def _read_text(field: Field, text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ParseException(
                f"crontab {field.name}: cannot read {part!r} in {text!r}; write such as *, 5, 1-5, */15 or 8-18/2"
            )
        found.update(_numbers(field, match[1], match[2])[:: _step(field, match)])
    return frozenset(found)


def _numbers(field: Field, first: str | None, last: str | None) -> list[int]:
    if first is None:
        return list(range(field.low, field.high + 1))
    begin = _number(field, first)
    if last is None:
        return [begin]
    end = _number(field, last)
    if field is DAY_OF_WEEK and last == "7" and begin:
        return [*range(begin, 7), 0]  # 5-7: Friday to Sunday
    if end >= begin:
        return list(range(begin, end + 1))
    return [*range(begin, field.high + 1), *range(field.low, end + 1)]


def _number(field: Field, text: str) -> int:
    if text.isdigit() and text.isascii():
        number = int(text)
    else:
        number = field.names.get(text[:3].lower(), -1) if len(text) >= 3 else -1
    if field is DAY_OF_WEEK and number == 7:
        return 0
    if not field.low <= number <= field.high:
        names = f", or {', '.join(field.names)}" if field.names else ""
        raise ParseException(
            f"crontab {field.name}: expected a number from {field.low} to {field.high}{names}, got {text!r}"
        )
    return number


def _step(field: Field, match: re.Match[str]) -> int:
    text = match[3]
    if text is None:
        return 1
    # "5/15" is one number with a step: nobody agrees on what that means.
    if not (text.isdigit() and text.isascii() and int(text)) or (match[1] is not None and match[2] is None):
        raise ParseException(f"crontab {field.name}: a step follows * or a range, as in */15, got {match[0]!r}")
    return int(text)
