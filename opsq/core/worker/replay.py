"""Answer a monitor that missed events: those of the numbers it names that are still kept."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from opsq.core.worker.station import Station

MOST_EVENTS: Final = 5_000
MOST_BYTES: Final = 4 * 1024 * 1024
_decode = msgspec.json.Decoder(list[dict[str, Any]] | dict[str, Any]).decode


def replay(station: Station, emitter: str, first: int, last: int) -> dict[str, Any]:
    """The events ``first`` to ``last`` of this worker's emitter, as far as they are kept, oldest first.

    complete: whether those are all of them. An emitter that is not ours, such as an earlier start of this worker,
    has nothing here.
    """
    ours = station.emitter
    if emitter != ours.id:
        return {"ok": "another emitter, of which nothing is kept here", "events": [], "complete": False}
    last = min(last, first + MOST_EVENTS - 1)
    found: list[dict[str, Any]] = []
    room = MOST_BYTES
    for sent in ours.ring.replay(first, last):
        room -= len(sent.body)
        if room < 0:
            break
        batch = _decode(sent.body)
        found += [each for each in (batch if isinstance(batch, list) else [batch]) if first <= each["seq"] <= last]
    return {"ok": f"{len(found)} events", "events": found, "complete": len(found) >= last - first + 1}
