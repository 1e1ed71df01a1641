"""What retention took away for ever: kept in the ledger, because what it counted cannot be counted again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from opsq.events import evidence as ev
from opsq.events.records import key_time
from opsq.events.rollup import FUTURE_S, STORED_TIERS

LEDGER: Final = "removed"
_DAY_S: Final = 86_400
_ENCODER: Final = msgspec.msgpack.Encoder()


class Gone(msgspec.Struct, array_like=True, frozen=True):
    """How many rows were removed. until_at: the latest moment (epoch seconds) that one of them told of."""

    rows: int = 0
    until_at: float = 0.0


def gone(ledger: Mapping[str, bytes]) -> Gone:
    """What was removed so far."""
    data = ledger.get(LEDGER)
    return msgspec.msgpack.decode(data, type=Gone) if data else Gone()


def more_gone(stored: bytes | None, evidence: Iterable[bytes], now: float) -> bytes:
    """The record after rows with this evidence were removed at ``now``."""
    known = gone({LEDGER: stored} if stored else {})
    rows, until_at = known.rows, known.until_at
    for data in evidence:
        rows += 1
        until_at = max(until_at, *(mark[1] for mark in ev.decode(data).marks), 0.0)
    # Nothing later than this was ever counted.
    return _ENCODER.encode(Gone(rows, min(until_at, now + FUTURE_S)))


#: Where room is short and no task is left to remove, of these tiers half of what their age allows is kept.
_LAST_RESORT: Final = 2


def figures_without_room(last: int | None, now: float) -> list[tuple[int, int]]:
    """(width in seconds, epoch second): rolled-up figures of that width from before then leave where room is short.

    last: key of the newest task that leaves, and with it go the figures of its hour, finest first; days and totals
    stay. ``None``: no task is left, so the figures of all tiers leave sooner than their age asks for.
    """
    if last is None:
        return [(tier.width_s, int(now) - tier.keep_s // _LAST_RESORT) for tier in STORED_TIERS]
    return [(tier.width_s, int(key_time(last)) - tier.width_s) for tier in STORED_TIERS if tier.width_s < _DAY_S]
