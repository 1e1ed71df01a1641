"""One decision as plain data: what is announced, stored and shown. Pure.

The field names are those of the event ``worker-autoscale``; lists of lists keep it small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from opsq.autoscale.decision import Decision
from opsq.autoscale.observation import Due, Machine, Observation, QueueView
from opsq.autoscale.presets import Limits

#: Queues whose inputs are kept; of more, those with the most to do.
MOST_QUEUES: Final = 8
#: Entries of schedules that are kept, each with its next tick: those due first.
MOST_DUE: Final = 4
_DIGITS: Final = 4


def record_of(
    group: str, seen: Observation, decision: Decision, limits: Limits, *, applied: int, dry: bool = False
) -> dict[str, Any]:
    """The decision with its inputs, every bound and the reason in words. applied: slots there will be now.

    dry: nothing was changed; ``have`` is then what there would be had it been.
    """
    return {
        "group": group,
        "have": decision.have,
        "want": decision.want,
        "target": decision.target,
        "applied": applied,
        "mode": "dry" if dry else decision.mode,
        "winner": decision.winner,
        "capped_by": decision.capped_by,
        "bounds": [[bound.name, bound.kind, _number(bound.value), bound.text] for bound in decision.bounds],
        "text": decision.text,
        "preset": limits.preset.name,
        "min": limits.fewest,
        "max": limits.most,
        "slo": limits.slo_s,
        "hold": _number(decision.hold_s),
        "noisy": decision.noisy,
        "running": seen.running,
        "starting": seen.starting,
        "spent": _number(seen.spent),
        "signals": [list(one) for one in signals_of(seen)],
    }


def signals_of(seen: Observation) -> Iterator[tuple[str, str, float | None, str, float]]:
    """What the decision looked at: (of what, name, value, unit, age in seconds); of a queue, of an entry of a schedule,
    or of the whole."""
    age_s = _number(seen.age_s)
    queues = sorted(seen.queues, key=_busiest)[:MOST_QUEUES]
    for queue in queues:
        yield from _of_queue(queue, -1.0 if age_s is None else age_s)
    if seen.machine is not None:
        yield from _of_machine(seen.machine)
    if seen.gauge is not None:
        yield "", "gauge", _number(seen.gauge.value), "", seen.gauge.age_s
        yield "", "gauge_per_slot", seen.gauge.per_slot, "", 0.0
    yield from _of_schedules(seen.due)


def _of_queue(queue: QueueView, age_s: float) -> Iterator[tuple[str, str, float | None, str, float]]:
    rows: tuple[tuple[str, float | None, str, float], ...] = (
        ("waiting", queue.depth, "tasks", age_s),
        ("oldest", queue.ages[0] if queue.ages else None, "s", age_s),
        ("arrive", queue.rate, "/s", 0.0),
        ("arrive_now", queue.rate_now, "/s", 0.0),
        ("run", queue.service_s, "s", 0.0),
        ("run_cv2", queue.service_cv2, "", 0.0),
        ("dispersion", queue.dispersion, "", 0.0),
        ("long_tasks", queue.occupied, "slots", 0.0),
    )
    for name, value, unit, old_s in rows:
        yield queue.name, name, _number(value), unit, old_s


def _of_machine(machine: Machine) -> Iterator[tuple[str, str, float | None, str, float]]:
    rows: tuple[tuple[str, float | None, str], ...] = (
        ("cpu_share", machine.cpu_share, "cores"),
        ("cores", machine.cores, "cores"),
        ("cpu_busy", machine.cpu_busy, ""),
        ("child_memory", machine.child_bytes, "bytes"),
        ("memory_used", machine.memory_used, "bytes"),
        ("memory_limit", machine.memory_limit, "bytes"),
        ("io_pressure", machine.io_pressure, ""),
    )
    for name, value, unit in rows:
        if value is not None:
            yield "", name, _number(value), unit, 0.0


def _of_schedules(ticks: tuple[Due, ...]) -> Iterator[tuple[str, str, float | None, str, float]]:
    first: dict[str, Due] = {}
    for due in ticks:
        first.setdefault(due.name, due)
    for due in list(first.values())[:MOST_DUE]:
        yield due.name, "due_in", _number(due.in_s), "s", 0.0
        yield due.name, "due_tasks", _number(due.tasks), "tasks", 0.0


def _busiest(queue: QueueView) -> tuple[float, str]:
    return -((queue.depth or 0.0) + (queue.rate or 0.0)), queue.name


def _number(value: float | None) -> float | None:
    """A number that JSON can hold, with the digits that matter."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}") if abs(value) < 1e4 else float(round(value))


def held_back(decision: Decision) -> tuple[str, str | None]:
    """What keeps the size as it is, as far as it is worth a record of its own: the mode and the guard."""
    kept = decision.capped_by if decision.capped_by not in (None, "useful", "most") else None
    return decision.mode, kept
