"""What would help, by cause, each with the effect it is predicted to have. Pure; every figure is an estimate.

A remedy names the command to type, and the act of the pages that does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from opsq.events.diagnosis import hold_remedies as hold
from opsq.events.diagnosis import queue_causes, slot_causes, worker_causes
from opsq.events.diagnosis import slot_remedies as slots
from opsq.events.diagnosis.case import Case
from opsq.events.diagnosis.records import Forecast, Remedy

MOST: Final = 5
#: What starts the task no earlier than this share of the time it takes by itself is not worth doing.
LEAST_GAIN: Final = 0.9
Maker = Callable[[Case, Forecast | None], "list[Remedy]"]

REMEDIES: Final[Mapping[str, Maker]] = {
    slot_causes.SLOTS_BUSY: slots.busy,
    queue_causes.NO_CONSUMER: slots.nobody,
    queue_causes.PAUSED: hold.paused,
    queue_causes.REVOKED: hold.revoked,
    queue_causes.UNKNOWN_NAME: hold.unknown_name,
    worker_causes.PREFETCHED: slots.prefetched,
    worker_causes.ETA: hold.held,
    worker_causes.RATE: hold.rated,
    worker_causes.DIED: slots.died,
}
"""Cause -> what makes its remedies; a test checks that none is missing."""


def remedies_for(case: Case, cause: str, expected: Forecast | None) -> tuple[Remedy, ...]:
    """What would help against a cause, the fastest first as far as that can be said."""
    make = REMEDIES.get(cause)
    made = [] if make is None else [each for each in make(case, expected) if _gains(each, expected)]
    return tuple(sorted(made, key=lambda each: each.starts_in_s if each.starts_in_s is not None else 1e12)[:MOST])


def _gains(remedy: Remedy, expected: Forecast | None) -> bool:
    """Whether the task would start clearly earlier than it does by itself, as far as both are known."""
    if remedy.starts_in_s is None or expected is None or expected.starts_in_s is None:
        return True
    return remedy.starts_in_s < expected.starts_in_s * LEAST_GAIN
