"""The chart above the task list: the history of the same filter, where history is counted by such terms. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from opsq.events.records import Point
from opsq.web import charts, words
from opsq.web.charts_data import Line
from opsq.web.terms import Filter
from opsq.web.view_charts import Finding, Frame, drawn

HEIGHT: Final = 64
NO_CHART: Final = "No chart of this filter: history is counted by one type, queue or worker, and by outcome."
OUTCOMES: Final = (("failed", "failed", "failed"), ("retried", "retry", "retry"), ("succeeded", "ok", "plain"))
"""Fields of a ``Point``, what the legend calls them, hue; those that are trouble lie on top."""


@dataclass(frozen=True, slots=True)
class Series:
    """Which rolled-up history counts a filter. counts: fields of a ``Point``; all outcomes without a state."""

    type: str | None = None
    queue: str | None = None
    worker: str | None = None
    counts: tuple[str, ...] = tuple(name for name, _, _ in OUTCOMES)


_COUNTED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "": Series().counts, "failed": ("failed",), "failure": ("failed",), "ok": ("succeeded",),
    "success": ("succeeded",), "retry": ("retried",),
})  # fmt: skip
_WIDTHS: Final[Mapping[int, str]] = MappingProxyType({60: "minute", 3600: "hour", 86_400: "day"})
_PATTERN: Final = frozenset("*?,[]")


def series_of(asked: Filter) -> Series | None:
    """Pick the history that counts a filter exactly; None when none does, because it is not kept by such terms."""
    names = [term.name for term in asked.terms]
    state = asked.value("state").lower()
    by = [name for name in names if name in ("type", "queue", "worker")]
    if asked.text or asked.fault or len(by) > 1 or set(names) - {"type", "queue", "worker", "state"}:
        return None
    if state not in _COUNTED or len(set(names)) < len(names) or _PATTERN & set(asked.value(by[0]) if by else ""):
        return None
    value = asked.value(by[0]) if by else ""
    if by == ["worker"] and "@" not in value:
        return None
    return Series(
        type=value if by == ["type"] else None, queue=value if by == ["queue"] else None,
        worker=value if by == ["worker"] else None, counts=_COUNTED[state],
    )  # fmt: skip


def filter_chart(chosen: Series, points: Sequence[Point], now: float) -> charts.Chart:
    """Chart how the tasks of a filter ended over time, per bucket."""
    lines = [
        Line(name, label, css, [float(getattr(point, name)) for point in points], area=True)
        for name, label, css in OUTCOMES
        if name in chosen.counts
    ]
    sums = {line.key: sum(value or 0.0 for value in line.values) for line in lines}
    width = f"per {_WIDTHS.get(int(points[0].width_s)) or words.duration(points[0].width_s)}" if points else ""
    said = ", ".join(f"{words.count(round(sums[line.key]))} {line.label}" for line in lines)
    frame = Frame("filter", "Ended", f"{width}, sums of the range", HEIGHT, axis=True)
    scale = charts.linear([line.values for line in lines], HEIGHT)
    return drawn(frame, lines, points, now, scale, Finding(f"Tasks that ended in this range: {said}.", sums))
