"""Stretches of time that pages look at: some that end now, and any other by URL. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from opsq.web import words

LEAST_S: Final = 60.0
MOST_S: Final = 2 * 366 * 86_400.0
_LONGEST_TEXT: Final = 40
_EARLIEST_AT: Final = 946_684_800.0
_LATEST_AT: Final = 4_102_444_800.0


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of time. key: its spelling in the URL. end_at: epoch seconds, None for one that ends now."""

    key: str
    label: str
    length_s: float
    end_at: float | None = None

    @property
    def own(self) -> bool:
        """It was given by its ends."""
        return self.end_at is not None

    @property
    def said(self) -> str:
        """It, named: ``last 1 h``, ``21 Nov 14:00 to 15:30``."""
        return self.label if self.own else f"last {self.label}"

    @property
    def when(self) -> str:
        """It, in a sentence: ``in the last 1 h``, ``from 21 Nov 14:00 to 15:30``."""
        return f"from {self.label}" if self.own else f"in the last {self.label}"

    def query(self, given: bool = True) -> dict[str, str]:
        """The parameters of the URL that ask for it."""
        if self.end_at is None:
            return {"range": self.key if given else ""}
        return {"range": "", "from": self.from_text, "to": self.to_text}

    @property
    def from_text(self) -> str:
        """Its beginning as the URL and the form have it, in UTC; empty for one that ends now."""
        return "" if self.end_at is None else _spelled(self.end_at - self.length_s)

    @property
    def to_text(self) -> str:
        """Its end as the URL and the form have it, in UTC; empty for one that ends now."""
        return "" if self.end_at is None else _spelled(self.end_at)


RANGES: Final = (
    Range("15m", "15 min", 900),
    Range("1h", "1 h", 3600),
    Range("6h", "6 h", 21_600),
    Range("24h", "24 h", 86_400),
    Range("7d", "7 d", 604_800),
    Range("30d", "30 d", 2_592_000),
    Range("90d", "90 d", 7_776_000),
)
DEFAULT_RANGE: Final = RANGES[1]


@dataclass(frozen=True, slots=True)
class Ranges:
    """The picker of a page. links: (label, URL, whether it is the one). action: where the form of an own range goes.

    kept: parameters that the form carries along.
    """

    links: tuple[tuple[str, str, bool], ...]
    action: str
    kept: tuple[tuple[str, str], ...]
    chosen: Range


def asked_range(params: Mapping[str, str]) -> Range | None:
    """Read the range that a URL asks for; None where it asks for none, or for nonsense."""
    start, end = _moment(params.get("from", "")), _moment(params.get("to", ""))
    if start is not None and end is not None and LEAST_S <= end - start <= MOST_S:
        return Range("own", _label(start, end), end - start, end)
    return next((each for each in RANGES if each.key == params.get("range")), None)


def _moment(text: str) -> float | None:
    """Read a moment as ISO 8601; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(text[:_LONGEST_TEXT].strip())
        at = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return at if _EARLIEST_AT <= at <= _LATEST_AT else None


def _spelled(at: float) -> str:
    return f"{words.utc(at):%Y-%m-%dT%H:%M:%S}"


def _label(start: float, end: float) -> str:
    """Say a stretch by its ends: ``21 Nov 14:00 to 15:30``."""
    say = words.clock_seconds if end - start < 600 else words.clock
    last = say(end) if words.day(start) == words.day(end) and end - start < 86_400 else f"{words.day(end)} {say(end)}"
    return f"{words.day(start)} {say(start)} to {last}"
