"""The numbers behind a chart: what a script draws the same picture from, and what is read without sight. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from opsq.web import words

Values = Sequence[float | None]

SECONDS: Final = "s"
RATE: Final = "/s"
COUNT: Final = ""
SHARE: Final = "%"
BYTES: Final = "B"
SAY: Final[Mapping[str, Callable[[float], str]]] = MappingProxyType({
    SECONDS: words.duration, RATE: words.significant, COUNT: words.significant, SHARE: words.percent,
    BYTES: lambda value: words.size(round(value)),
})  # fmt: skip
"""How a value of each unit is written; ``charts.js`` has the same rules."""
_DIGITS: Final = 4
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Line:
    """One series as numbers. key: names it in legend and table. unit: a key of ``SAY``. area: filled down to 0.

    steps: a value holds until the next one, as a size does.
    """

    key: str
    label: str
    css: str
    values: Values
    unit: str = COUNT
    area: bool = False
    steps: bool = False

    def say(self, value: float | None, unknown: str = words.NOT_APPLICABLE) -> str:
        """Write one value in words."""
        return unknown if value is None else SAY[self.unit](value)


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines on one time axis. start_at: of the first bucket, epoch seconds. low, high: values at the edges.

    log: the values' axis is logarithmic. open: the last bucket still fills.
    """

    start_at: float
    width_s: float
    lines: tuple[Line, ...]
    low: float
    high: float
    log: bool = False
    open: bool = True

    @property
    def length_s(self) -> float:
        """Seconds from the left edge to the right one, where the last bucket begins."""
        return self.width_s * max(1, len(self.lines[0].values) - 1) if self.lines else self.width_s

    def percent(self, at: float) -> float | None:
        """Where a moment stands on the time axis; None outside of it. What is newer than the edge stands on it."""
        share = (at - self.start_at) / self.length_s
        if share < 0 or at > self.start_at + self.length_s + self.width_s:
            return None
        return round(min(100.0, 100 * share), 2)

    def data(self) -> dict[str, Any]:
        """What ``charts.js`` reads, rounded to four digits."""
        return {
            "t": self.start_at, "w": self.width_s, "lo": self.low, "hi": self.high, "log": self.log, "open": self.open,
            "lines": [
                {
                    "k": line.key, "c": line.css, "u": line.unit, "a": line.area, "s": line.steps,
                    "v": [*map(_rounded, line.values)],
                }
                for line in self.lines
            ],
        }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


@dataclass(frozen=True, slots=True)
class DataTable:
    """The buckets of charts in words. columns: heads beside the time; rows: newest first, time first."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table(plots: Sequence[Plot]) -> DataTable:
    """Write charts that share one time axis as a table, newest bucket first."""
    shown = [plot for plot in plots if plot.lines]
    if not shown:
        return DataTable((), ())
    first, lines = shown[0], [line for plot in shown for line in plot.lines]
    rows = (
        (moment(first.start_at + i * first.width_s, first.width_s), *(line.say(line.values[i]) for line in lines))
        for i in reversed(range(len(first.lines[0].values)))
    )
    return DataTable(tuple(_head(line) for line in lines), tuple(rows))


def _head(line: Line) -> str:
    label = line.label[:1].upper() + line.label[1:]
    return f"{label} /s" if line.unit == RATE else label


def moment(at: float, width_s: float) -> str:
    """Write when a bucket begins, as exactly as it is wide."""
    if width_s >= _DAY_S:
        return words.day(at)
    if width_s >= 3600:
        return f"{words.day(at)} {words.clock(at)}"
    return words.clock(at) if width_s >= 60 else words.clock_seconds(at)


class Bucket(Protocol):
    """Anything that begins at a moment and lasts."""

    @property
    def at(self) -> float:
        """Epoch seconds of its beginning."""
        ...

    @property
    def width_s(self) -> float:
        """Seconds that it lasts."""
        ...


def heat_axis(buckets: Sequence[Bucket]) -> Plot | None:
    """The time axis of a heat map, for marks: its cells are as wide as their buckets, the last one too."""
    if not buckets:
        return None
    nothing = Line("", "", "", [None] * (len(buckets) + 1))
    return Plot(buckets[0].at, buckets[0].width_s, (nothing,), 0.0, 1.0)
