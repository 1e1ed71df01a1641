"""Charts as geometry: series in, the numbers of an SVG out. Pure; the templates only write them down.

Everything is drawn by the server, so a page without script shows the same picture. Coordinates run in a box
of 600 units that is stretched to the page; text stands outside that box, in percent. A missing value is a
gap, never 0; the last bucket is still filling and is drawn open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opsq.web import words
from opsq.web.charts_data import Plot, Values

BOX_WIDTH = 600
HEADROOM = 6
HEAT_STEPS = 5
_LOG_TICKS_S = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0)


@dataclass(frozen=True, slots=True)
class Trace:
    """A drawn line: ``closed`` buckets and the ``open`` last step, both SVG path data. solid: a full-ink area."""

    css: str
    closed: str
    open: str = ""
    area: str = ""
    solid: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """A label on an axis. at: y in pixels or x in percent, by the axis it belongs to."""

    label: str
    at: float
    css: str = ""


@dataclass(frozen=True, slots=True)
class LegendItem:
    """A series' name and its newest value. column: of the data table, where the value under the pointer stands."""

    css: str
    label: str
    value: str
    column: str = ""
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """All that a template needs to write one chart. height: of the plot, in pixels, without the axis.

    plot: the same as numbers, for the script and the table.
    """

    id: str
    title: str
    small: str
    sentence: str
    height: int
    y_ticks: tuple[Tick, ...]
    traces: tuple[Trace, ...]
    legend: tuple[LegendItem, ...]
    x_ticks: tuple[Tick, ...] = ()
    limit: Tick | None = None
    plot: Plot | None = None

    @property
    def box_height(self) -> int:
        """Height of the whole drawing: the plot and, where it has one, the time axis."""
        return self.height + (20 if self.x_ticks else 0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps a value to y in pixels (0 is the top). Made by ``linear`` or ``logarithmic``. low, high: at the edges."""

    to_y: Callable[[float], float]
    ticks: tuple[Tick, ...]
    low: float
    high: float
    log: bool = False


def linear(values: Sequence[Values], height: int, say: Callable[[float], str] = words.significant) -> Scale:
    """Make a scale from 0 to a round number above every value, with a tick at top, middle (if high) and 0."""
    top = nice_above(max((value for series in values for value in series if value is not None), default=0.0))
    span = height - HEADROOM

    def to_y(value: float) -> float:
        return height - span * min(max(value, 0.0), top) / top

    wanted = (top, top / 2, 0.0) if height >= 90 else (top, 0.0)
    ticks = tuple(Tick(say(value), round(to_y(value), 1)) for value in wanted)
    return Scale(to_y, ticks, 0.0, top * height / span)


def logarithmic(values: Sequence[Values], height: int) -> Scale:
    """Make a log scale of seconds over the decades that are needed, at least two of them."""
    known = [value for series in values for value in series if value is not None and value > 0]
    low, high = min(known, default=0.01), max(known, default=1.0)
    first = max((i for i, tick in enumerate(_LOG_TICKS_S) if tick <= low), default=0)
    last = min((i for i, tick in enumerate(_LOG_TICKS_S) if tick >= high), default=len(_LOG_TICKS_S) - 1)
    if last - first < 2:
        first, last = (max(0, last - 2), last) if last >= 2 else (0, 2)
    bottom, top = math.log10(_LOG_TICKS_S[first]), math.log10(max(_LOG_TICKS_S[last], high))
    span = height - HEADROOM

    def to_y(value: float) -> float:
        share = (math.log10(max(value, 1e-9)) - bottom) / (top - bottom)
        return height - span * min(max(share, 0.0), 1.0)

    ticks = tuple(Tick(words.duration(t), round(to_y(t), 1)) for t in reversed(_LOG_TICKS_S[first : last + 1]))
    return Scale(to_y, ticks, 10**bottom, 10 ** (bottom + (top - bottom) * height / span), log=True)


def nice_above(value: float) -> float:
    """Round up to 1, 1.5, 2, 3, 5 or 8 times a power of ten; 0 gives 1, so that an empty chart has an axis."""
    if value < 1e-12:  # below, the power of ten may be 0 and nothing could be divided by it
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 1.5, 2, 3, 5, 8) if step * power >= value * 0.9999), 10 * power)


def trace(
    values: Values,
    scale: Scale,
    css: str,
    *,
    area: bool = False,
    height: int = 0,
    open: bool = True,
    steps: bool = False,
) -> Trace:
    """Draw one series from edge to edge; with ``area`` the space below it down to ``height`` as well.

    open: the last bucket still fills. steps: a value holds until the next one.
    """
    points = _points(values, scale.to_y, BOX_WIDTH)
    closed, last = _split_open(points) if open else (points, [])
    if steps:
        points, closed, last = _stepped(points), _stepped(closed), _stepped(last)
    return Trace(css, _path(closed), _path(last), _area(points, height) if area else "")


def spark(values: Values, *, width: int, height: int = 20, floor: float | None = 0.0) -> Trace:
    """Draw a small line that fills its box. floor: value of the bottom edge; None takes the least value."""
    known = [value for value in values if value is not None]
    low = min(known, default=0.0) if floor is None else floor
    top = max(known, default=0.0)
    span = top - low

    def to_y(value: float) -> float:
        return height - 1.5 - ((value - low) / span * (height - 3) if span > 0 else 0)

    closed, last = _split_open(_points(values, to_y, width))
    return Trace("", _path(closed), _path(last))


def time_ticks(start_at: float, end_at: float, parts: int = 6) -> tuple[Tick, ...]:
    """Label the time axis at even steps; every second label is dropped on a phone."""
    length = end_at - start_at
    say = words.day if length > 129_600 else words.clock if length >= 600 else words.clock_seconds
    ticks = []
    for step in range(parts + 1):
        css = "" if step == 0 else "end" if step == parts else "mid m-no" if step % 2 else "mid"
        ticks.append(Tick(say(start_at + (end_at - start_at) * step / parts), round(100 * step / parts, 1), css))
    return tuple(ticks)


def heat_steps(shares: Values) -> tuple[int | None, ...]:
    """Turn shares of slots busy into the six lightness steps; None is a cell without data."""
    return tuple(None if share is None else _heat(share) for share in shares)


def _heat(share: float) -> int:
    return 0 if share <= 0.005 else min(HEAT_STEPS, 1 + int(min(share, 1.0) * HEAT_STEPS * 0.999))


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a bar, in percent of the box. css: the state that gives it its hue."""

    css: str
    x: float
    width: float


def segments(lengths: Sequence[tuple[str, float | None]], full_scale: float) -> tuple[tuple[Segment, ...], bool]:
    """Lay lengths end to end on a scale that ends at ``full_scale``; also tell whether the bar was cut."""
    bar: list[Segment] = []
    at = 0.0
    for css, length in lengths:
        if length is None or length <= 0:
            continue
        share = 100 * length / full_scale if full_scale > 0 else 0.0
        width = min(max(share, 0.6), 100.0 - at)
        if width > 0:
            bar.append(Segment(css, round(at, 2), round(width, 2)))
        at += max(share, 0.6)
    return tuple(bar), at > 100.5


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value below which ``share`` of the values lie; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


Point = tuple[float, float | None]


def _points(values: Values, to_y: Callable[[float], float], width: int) -> list[Point]:
    step = width / max(1, len(values) - 1)
    return [(round(i * step, 1), None if v is None else round(to_y(v), 1)) for i, v in enumerate(values)]


def _split_open(points: list[Point]) -> tuple[list[Point], list[Point]]:
    """Keep the last step apart: its bucket is not full yet."""
    if len(points) >= 2 and points[-1][1] is not None and points[-2][1] is not None:
        return points[:-1], points[-2:]
    return points, []


def _stepped(points: Sequence[Point]) -> list[Point]:
    """Go level to the next place before going up or down to its value."""
    corners: list[Point] = []
    before = None
    for x, y in points:
        if before is not None and y is not None and before != y:
            corners.append((x, before))
        corners.append((x, y))
        before = y
    return corners


def _runs(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _path(points: Sequence[Point]) -> str:
    parts = []
    for run in _runs(points):
        if len(run) == 1:  # a point between two gaps would be invisible
            parts.append(f"M{max(0.0, run[0][0] - 1):g},{run[0][1]:g}h2")
        else:
            parts.append("M" + " ".join(f"{x:g},{y:g}" for x, y in run))
    return "".join(parts)


def _area(points: Sequence[Point], height: int) -> str:
    parts = []
    for run in _runs(points):
        if len(run) > 1:
            line = " ".join(f"{x:g},{y:g}" for x, y in run)
            parts.append(f"M{line} V{height} H{run[0][0]:g} Z")
    return "".join(parts)
