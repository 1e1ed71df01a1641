"""What counts of arrivals per second tell: how uneven they are, and how old those are that wait still. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Places of a queue whose ages a policy is told.
PLACES: Final = 4


def dispersion(counts: Sequence[float]) -> float:
    """Variance over mean of the arrivals per second; 1, as of chance alone, while too little is known."""
    if len(counts) < 2 or not sum(counts):
        return 1.0
    mean = sum(counts) / len(counts)
    return sum((count - mean) ** 2 for count in counts) / len(counts) / mean


def waiting_ages(
    newest: Sequence[float], waiting: float, oldest_s: float | None = None, places: int = PLACES
) -> tuple[float, ...]:
    """How long messages have waited at even places of a queue that is served in order, oldest first.

    The newest ones wait, so of each place the second is sought in which it came. newest: arrivals per second, newest
    first. oldest_s: what the broker says of the oldest, which no other exceeds.
    """
    if waiting <= 0:
        return ()
    places = max(1, min(places, int(waiting)))
    found, back, passed = [], 0, 0.0
    for place in range(places - 1, -1, -1):
        behind = waiting - waiting * place / places
        while back < len(newest) and passed + newest[back] < behind:
            passed += newest[back]
            back += 1
        found.append(float(back))
    ages = found[::-1]
    if oldest_s is not None:
        ages = [oldest_s, *(min(age, oldest_s) for age in ages[1:])]
    return tuple(ages)
