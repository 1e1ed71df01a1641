"""The charts of the pages: buckets in, charts out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from opsq.events.records import Percentiles, Point
from opsq.web import charts, words
from opsq.web.charts_data import COUNT, RATE, SECONDS, Line, Plot
from opsq.web.faces import LIMITS

YOUNG_SHARE: Final = 0.25
SEGMENTS: Final = (
    ("broker", "in broker", "waiting"),
    ("run", "run", "running"),
    ("prefetch", "prefetched", "prefetched"),
)
HEIGHT: Final = 96
TALL: Final = 200
LOW: Final = 52


@dataclass(frozen=True, slots=True)
class Frame:
    """What surrounds the lines of a chart. axis: it carries the time axis. bad: keys whose newest value is trouble."""

    id: str
    title: str
    small: str
    height: int = HEIGHT
    axis: bool = False
    bad: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a chart says in words. sentence: its finding. newest: by key, what the legend says. limit: a line across."""

    sentence: str
    newest: Mapping[str, float | None]
    limit: charts.Tick | None = None


def drawn(
    frame: Frame, lines: Sequence[Line], points: Sequence[Point], now: float, scale: charts.Scale, found: Finding
) -> charts.Chart:
    """Draw lines over the buckets of ``points``."""
    start, end = _ends(points, now)
    return charts.Chart(
        id=frame.id,
        title=frame.title,
        small=frame.small,
        sentence=found.sentence,
        height=frame.height,
        y_ticks=scale.ticks,
        # What is told first lies on top, so it is drawn last.
        traces=tuple(
            charts.trace(
                line.values,
                scale,
                line.css,
                area=line.area,
                height=frame.height,
                open=_is_open(points),
                steps=line.steps,
            )
            for line in reversed(lines)
        ),
        legend=tuple(
            charts.LegendItem(
                line.css, line.label, line.say(found.newest.get(line.key)), line.key, line.key in frame.bad
            )
            for line in lines
        ),
        x_ticks=charts.time_ticks(start, end) if frame.axis else (),
        limit=found.limit,
        plot=_plot(lines, points, scale),
    )


def _plot(lines: Sequence[Line], points: Sequence[Point], scale: charts.Scale) -> Plot | None:
    if not points:
        return None
    first = points[0]
    return Plot(first.at, first.width_s, tuple(lines), scale.low, scale.high, scale.log, _is_open(points))


def _is_open(points: Sequence[Point]) -> bool:
    return bool(points) and points[-1].open


def _ends(points: Sequence[Point], now: float) -> tuple[float, float]:
    return (points[0].at, min(now, points[-1].at + points[-1].width_s)) if points else (now - 60, now)


def throughput(points: Sequence[Point], now: float, *, axis: bool = False) -> charts.Chart:
    """Chart what is done and what arrives, per second."""
    done = Line("done", "done", "total", [rate_of(p, p.done, now) for p in points], RATE, area=True)
    arrived = Line("arrived", "arrived", "step", [rate_of(p, p.arrived, now) for p in points], RATE)
    newest = {line.key: _settled(line.values, points) or 0.0 for line in (done, arrived)}
    most = max((rate for rate in done.values if rate is not None), default=0.0)
    return drawn(
        Frame("throughput", "Throughput", "per second", axis=axis),
        (done, arrived), points, now, charts.linear([done.values, arrived.values], HEIGHT),
        Finding(f"Throughput: {done.say(newest['done'])} tasks per second done now, "
             f"{arrived.say(newest['arrived'])} arrive; at most {done.say(most)} in this range.", newest),
    )  # fmt: skip


def latency(points: Sequence[Point], now: float, percentile: int) -> charts.Chart:
    """Chart where the time goes: each segment at one percentile, and the oldest that waits, on a log scale."""
    lines = [
        Line(name, label, css, [_positive(at_percentile(p.latency.get(name), percentile)) for p in points], SECONDS)
        for name, label, css in SEGMENTS
    ]
    oldest = Line("oldest", "oldest waiting", "age", [_positive(p.oldest_max_s) for p in points], SECONDS)
    if any(value is not None for value in oldest.values):  # a task type has no depth of its own
        lines.insert(0, oldest)
    scale = charts.logarithmic([line.values for line in lines], TALL)
    newest = {line.key: _last(line.values) for line in lines}
    top = scale.to_y(LIMITS.oldest_s)
    target = charts.Tick(f"target, {words.duration(LIMITS.oldest_s)}", round(top, 1)) if top > 12 else None
    said = ", ".join(f"{line.label} {line.say(newest[line.key])}" for line in lines)
    return drawn(
        Frame("latency", "Latency", "by segment, log scale", TALL, bad=_over(newest.get("oldest"))),
        lines, points, now, scale, Finding(f"Latency p{percentile} by segment, newest: {said}.", newest, target),
    )  # fmt: skip


def failed(points: Sequence[Point], now: float) -> charts.Chart:
    """Chart failures per second; it carries the time axis of those above it."""
    line = Line("failed", "failed", "failed", [rate_of(p, p.failed, now) for p in points], RATE, area=True)
    newest = _settled(line.values, points) or 0.0
    total = sum(point.failed for point in points)
    return drawn(
        Frame("failed", "Failed", "per second", LOW, axis=True, bad=frozenset({"failed"} if newest > 0 else ())),
        (line,), points, now, charts.linear([line.values], LOW),
        Finding(f"Failures: {words.plural(total, 'task')} failed in this range, {line.say(newest)} per second now.",
             {"failed": newest}),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Area:
    """What one area chart is called and looks like. of: what the newest value is measured against.

    unit: of ``charts_data.SAY``.
    """

    id: str
    title: str
    small: str
    css: str = "total"
    height: int = HEIGHT
    axis: bool = True
    of: str = "now"
    unit: str = COUNT


def area_chart(area: Area, values: Sequence[float | None], points: Sequence[Point], now: float) -> charts.Chart:
    """Chart one series as an area over the buckets of ``points``."""
    line = Line(area.id, area.of, area.css, values, area.unit, area=True)
    newest = _settled(values, points)
    most = max((value for value in values if value is not None), default=None)
    said, at_most = (line.say(value, words.UNKNOWN) for value in (newest, most))
    return drawn(
        Frame(area.id, area.title, area.small, area.height, area.axis),
        (line,), points, now, charts.linear([values], area.height, line.say),
        Finding(f"{area.title}: {said} now, at most {at_most} in this range.", {area.id: newest}),
    )  # fmt: skip


def oldest_chart(points: Sequence[Point], now: float = 0.0) -> charts.Chart:
    """Chart the age of the oldest that waits, on a log scale with its target."""
    line = Line("oldest", "oldest", "age", [_positive(point.oldest_max_s) for point in points], SECONDS)
    scale = charts.logarithmic([line.values, [LIMITS.oldest_s]], HEIGHT)
    waits = _last(line.values)
    target = words.duration(LIMITS.oldest_s)
    return drawn(
        Frame("oldest", "Oldest waiting", "log scale", bad=_over(waits)),
        (line,), points, now, scale,
        Finding(f"Age of the oldest waiting task: {line.say(waits)} now, target {target}.", {"oldest": waits},
             charts.Tick(f"target, {target}", round(scale.to_y(LIMITS.oldest_s), 1))),
    )  # fmt: skip


def rates_chart(points: Sequence[Point], now: float) -> charts.Chart:
    """Chart what arrives and what is done, per second, with the time axis."""
    return replace(throughput(points, now, axis=True), id="rates", title="Arrive and done")


def at_percentile(found: Percentiles | None, percentile: int) -> float | None:
    """Pick one of the three percentiles; None when nothing was measured."""
    if found is None or not found.count:
        return None
    return {50: found.p50, 95: found.p95, 99: found.p99}[percentile]


def rate_of(point: Point, count: int, now: float) -> float | None:
    """Make a rate of a bucket's count; an open bucket counts for as long as it lasts, a very young one says nothing."""
    if not point.open:
        return count / point.width_s
    lasted = now - point.at
    return count / lasted if lasted > YOUNG_SHARE * point.width_s else None


def _settled(values: Sequence[float | None], points: Sequence[Point]) -> float | None:
    """Read the newest whole bucket: one that still fills says too little of a count."""
    return _last(values[:-1] if _is_open(points) and len(values) > 1 else values)


def _over(waits: float | None) -> frozenset[str]:
    return frozenset({"oldest"} if waits is not None and waits > LIMITS.oldest_s else ())


def _positive(value: float | None) -> float | None:
    return None if value is None else max(value, 1e-4)


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values[-3:]) if value is not None), None)
