"""The three charts of the overview, one time axis, and the same numbers as a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from opsq.events.records import Percentiles, Point
from opsq.web import charts, words
from opsq.web.faces import LIMITS

YOUNG_SHARE: Final = 0.25
SEGMENTS: Final = (
    ("broker", "in broker", "waiting"),
    ("run", "run", "running"),
    ("prefetch", "prefetched", "prefetched"),
)


@dataclass(frozen=True, slots=True)
class DataRow:
    """One bucket in words, in the order of the columns."""

    cells: tuple[tuple[str, str], ...]


COLUMNS: Final = (
    ("time", "From"), ("done", "Done"), ("arrived", "Arrived"), ("oldest", "Oldest"), ("broker", "In broker"),
    ("prefetch", "Prefetched"), ("run", "Run"), ("failed", "Failed"),
)  # fmt: skip


def data_rows(points: Sequence[Point], percentile: int) -> tuple[DataRow, ...]:
    """Write every bucket in words."""
    return tuple(DataRow(tuple(_cells(point, percentile))) for point in points)


def _cells(point: Point, percentile: int) -> list[tuple[str, str]]:
    return [
        ("time", words.clock_seconds(point.at) if point.width_s < 60 else words.clock(point.at)),
        ("done", words.significant(point.done / point.width_s)),
        ("arrived", words.significant(point.arrived / point.width_s)),
        ("oldest", _or_dash(point.oldest_max_s)),
        *((key, _or_dash(at_percentile(point.latency.get(key), percentile))) for key in ("broker", "prefetch", "run")),
        ("failed", words.significant(point.failed / point.width_s)),
    ]


def _or_dash(seconds: float | None) -> str:
    return words.NOT_APPLICABLE if seconds is None else words.duration(seconds)


def at_percentile(found: Percentiles | None, percentile: int) -> float | None:
    """Pick one of the three percentiles; None when nothing was measured."""
    if found is None or not found.count:
        return None
    return {50: found.p50, 95: found.p95, 99: found.p99}[percentile]


def throughput(points: Sequence[Point], now: float) -> charts.Chart:
    """Chart what is done and what arrives, per second."""
    done = [rate_of(point, point.done, now) for point in points]
    arrived = [rate_of(point, point.arrived, now) for point in points]
    scale = charts.linear([done, arrived], 96)
    most = max((rate for rate in done if rate is not None), default=0.0)
    now_done, now_arrived = _newest(points, lambda p: p.done), _newest(points, lambda p: p.arrived)
    return charts.Chart(
        id="throughput",
        title="Throughput",
        small="per second",
        sentence=f"Throughput: {words.significant(now_done)} tasks per second done now, "
        f"{words.significant(now_arrived)} arrive; at most {words.significant(most)} in this range.",
        height=96,
        y_ticks=scale.ticks,
        traces=(
            charts.trace(done, scale, "total", area=True, height=96),
            charts.trace(arrived, scale, "step"),
        ),
        legend=(
            charts.LegendItem("total", "done", words.significant(now_done), "done"),
            charts.LegendItem("step", "arrived", words.significant(now_arrived), "arrived"),
        ),
    )


def latency(points: Sequence[Point], percentile: int) -> charts.Chart:
    """Chart where the time goes: each segment at one percentile, and the oldest that waits, on a log scale."""
    oldest = [_positive(point.oldest_max_s) for point in points]
    series = {
        name: [_positive(at_percentile(p.latency.get(name), percentile)) for p in points] for name, _, _ in SEGMENTS
    }
    scale = charts.logarithmic([*series.values(), oldest], 200)
    newest = {name: _last(values) for name, values in series.items()}
    waits = _last(oldest)
    over = waits is not None and waits > LIMITS.oldest_s
    top = scale.to_y(LIMITS.oldest_s)
    said = ", ".join(f"{label} {_or_dash(newest[name])}" for name, label, _ in SEGMENTS)
    return charts.Chart(
        id="latency",
        title="Latency",
        small="by segment, log scale",
        sentence=f"Latency p{percentile} by segment, newest: {said}; oldest waiting {_or_dash(waits)}.",
        height=200,
        y_ticks=scale.ticks,
        traces=(
            *(charts.trace(series[name], scale, css) for name, _, css in reversed(SEGMENTS)),
            charts.trace(oldest, scale, "age"),
        ),
        legend=(
            charts.LegendItem("age", "oldest waiting", _or_dash(waits), "oldest", over),
            *(charts.LegendItem(css, label, _or_dash(newest[name]), name) for name, label, css in SEGMENTS),
        ),
        limit=charts.Tick(f"target, {words.duration(LIMITS.oldest_s)}", round(top, 1)) if top > 12 else None,
    )


def failed(points: Sequence[Point], now: float) -> charts.Chart:
    """Chart failures per second; it carries the time axis of the three."""
    values = [rate_of(point, point.failed, now) for point in points]
    scale = charts.linear([values], 52)
    newest = _newest(points, lambda point: point.failed)
    total = sum(point.failed for point in points)
    start = points[0].at if points else now - 60
    return charts.Chart(
        id="failed",
        title="Failed",
        small="per second",
        sentence=f"Failures: {words.plural(total, 'task')} failed in this range, "
        f"{words.significant(newest)} per second now.",
        height=52,
        y_ticks=scale.ticks,
        traces=(charts.trace(values, scale, "failed", area=True, height=52),),
        legend=(charts.LegendItem("failed", "failed", words.significant(newest), "failed", newest > 0),),
        x_ticks=charts.time_ticks(start, now),
    )


@dataclass(frozen=True, slots=True)
class Area:
    """What one area chart is called and looks like. of: what the newest value is measured against."""

    id: str
    title: str
    small: str
    css: str = "total"
    height: int = 96
    axis: bool = True
    of: str = "now"


def area_chart(area: Area, values: Sequence[float | None], points: Sequence[Point], now: float) -> charts.Chart:
    """Chart one series as an area over the buckets of ``points``."""
    scale = charts.linear([values], area.height)
    # A bucket that still fills says too little of a count.
    newest = _last(values[:-1] if points and points[-1].open and len(values) > 1 else values)
    most = max((value for value in values if value is not None), default=None)
    said, at_most = (words.UNKNOWN if value is None else words.significant(value) for value in (newest, most))
    return charts.Chart(
        id=area.id,
        title=area.title,
        small=area.small,
        sentence=f"{area.title}: {said} now, at most {at_most} in this range.",
        height=area.height,
        y_ticks=scale.ticks,
        traces=(charts.trace(values, scale, area.css, area=True, height=area.height),),
        legend=(charts.LegendItem(area.css, area.of, said, area.id),),
        x_ticks=charts.time_ticks(points[0].at if points else now - 60, now) if area.axis else (),
    )


def oldest_chart(points: Sequence[Point]) -> charts.Chart:
    """Chart the age of the oldest that waits, on a log scale with its target."""
    oldest = [_positive(point.oldest_max_s) for point in points]
    scale = charts.logarithmic([oldest, [LIMITS.oldest_s]], 96)
    waits = _last(oldest)
    over = waits is not None and waits > LIMITS.oldest_s
    target = words.duration(LIMITS.oldest_s)
    return charts.Chart(
        id="oldest",
        title="Oldest waiting",
        small="log scale",
        sentence=f"Age of the oldest waiting task: {_or_dash(waits)} now, target {target}.",
        height=96,
        y_ticks=scale.ticks,
        traces=(charts.trace(oldest, scale, "age"),),
        legend=(charts.LegendItem("age", "oldest", _or_dash(waits), "oldest", over),),
        limit=charts.Tick(f"target, {target}", round(scale.to_y(LIMITS.oldest_s), 1)),
    )


def rates_chart(points: Sequence[Point], now: float) -> charts.Chart:
    """Chart what arrives, what is done and what fails, per second, with the time axis."""
    whole = throughput(points, now)
    start = points[0].at if points else now - 60
    return replace(whole, id="rates", title="Arrive and done", x_ticks=charts.time_ticks(start, now))


def rate_of(point: Point, count: int, now: float) -> float | None:
    """Make a rate of a bucket's count; an open bucket counts for as long as it lasts, a very young one says nothing."""
    if not point.open:
        return count / point.width_s
    lasted = now - point.at
    return count / lasted if lasted > YOUNG_SHARE * point.width_s else None


def _newest(points: Sequence[Point], pick: Callable[[Point], int]) -> float:
    """Read the newest whole bucket as a rate: the open one is too short to be one."""
    whole = next((point for point in reversed(points) if not point.open), None)
    return pick(whole) / whole.width_s if whole else 0.0


def _positive(value: float | None) -> float | None:
    return None if value is None else max(value, 1e-4)


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values[-3:]) if value is not None), None)
