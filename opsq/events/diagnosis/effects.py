"""What a change would do to a task and to its queue, in words. Pure; every figure is an estimate."""

from __future__ import annotations

from typing import Final

from opsq import words
from opsq.events.diagnosis.case import Case
from opsq.events.diagnosis.forecast import NOTHING, Change, about, starts_in
from opsq.events.diagnosis.records import Effect, Forecast

DRAINED: Final = "Queue drained"
STARTS: Final = "This task starts"


def starting(case: Case, change: Change, expected: Forecast | None) -> tuple[tuple[Effect, ...], float | None]:
    """The effect of a change on this task: ``in ≈ 3 s instead of 40 s``."""
    if case.task is None:
        return (), None
    after_s = starts_in(case, change)
    if after_s is None:
        return (Effect(STARTS, "sooner; when cannot be said", strong=True),), None
    before_s = expected.starts_in_s if expected is not None else starts_in(case)
    instead = f" instead of {words.duration(about(before_s))}" if before_s is not None and change != NOTHING else ""
    when = "at once" if after_s < 0.5 else f"in ≈{words.NBSP}{words.duration(about(after_s))}"
    return (Effect(STARTS, when + instead, strong=True),), after_s


def drained(case: Case, slots: int) -> tuple[Effect, ...]:
    """When the queue would be empty with so many slots at work, if as much arrives as now."""
    line, arrived = case.line, case.line.arrived_per_s if case.line is not None else None
    weights = [(usual.mean_s, count) for type, count in (line.mix.items() if line is not None else ())
               if (usual := case.pace_of(type)) is not None]  # fmt: skip
    total = sum(count for _, count in weights)
    if line is None or not line.ready or not total or arrived is None:
        return ()
    mean_s = sum(mean * count for mean, count in weights) / total
    gain = slots / mean_s - arrived if mean_s > 0 else 0.0
    text = (
        f"in ≈{words.NBSP}{words.duration(about(line.ready / gain))}"
        if gain > 0
        else "never: more arrives than they do"
    )
    return (Effect(DRAINED, text),)
