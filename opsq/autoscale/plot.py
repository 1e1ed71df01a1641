"""Draw what policies did with a load: slots over time on one axis, as SVG, and the table beside it as one HTML page.

Nothing is loaded from anywhere: the page stands by itself and reads well in light and dark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from opsq.autoscale.simulator import Run
from opsq.autoscale.traces import Trace

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 960, 336, 48, 32, 36, 12
LETTER = 7
COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2", "#65a30d", "#7c3aed", "#475569")
BINS = 240
Scale = Callable[[float], float]
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#1f2937;background:#fff}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #e5e7eb}
th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto}i{display:inline-block;width:.8em;height:.8em}
details{margin:1rem 0}li{margin:.15rem 0}
@media (prefers-color-scheme:dark){body{color:#e5e7eb;background:#111827}th,td{border-color:#374151}}
"""


def svg(trace: Trace, runs: Sequence[Run]) -> str:
    """The slots of each run as a step line, over the load (slots that the work of each moment keeps busy)."""
    load = _load(trace)
    highest = max([1.0, *load, *(float(size) for run in runs for _, size in run.steps)])
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(at: float) -> float:
        return LEFT + wide * at / trace.seconds

    def y(slots: float) -> float:
        return TOP + high * (1 - slots / highest)

    base = y(0)
    width_s = trace.seconds / BINS
    area = " ".join(f"{x(place * width_s):.1f},{y(min(value, highest)):.1f}" for place, value in enumerate(load))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="Slots over time, {escape(trace.name)}" font-family="system-ui,sans-serif" font-size="12">',
        f'<polygon fill="#94a3b8" opacity=".35"'
        f' points="{x(0):.1f},{base:.1f} {area} {x(trace.seconds):.1f},{base:.1f}"/>',
    ]
    for part in (0, 0.25, 0.5, 0.75, 1):
        slots, at = highest * part, trace.seconds * part
        anchor = "end" if part == 1 else "middle"
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(slots):.1f}" y2="{y(slots):.1f}" stroke="#94a3b8"/>'
            f'<text x="{LEFT - 6}" y="{y(slots) + 4:.1f}" text-anchor="end" fill="#64748b">{slots:.0f}</text>'
            f'<text x="{x(at):.1f}" y="{HEIGHT - 14}" text-anchor="{anchor}" fill="#64748b">{_clock(at)}</text>'
        )
    parts += _legend(runs)
    for run, colour in zip(runs, _colours(len(runs)), strict=True):
        if run.steps:
            parts.append(
                f'<path d="{_line(run, trace.seconds, x, y)}" fill="none" stroke="{colour}" stroke-width="1.5">'
                f"<title>{escape(run.policy)}</title></path>"
            )
    return "".join([*parts, "</svg>"])


def _legend(runs: Sequence[Run]) -> list[str]:
    """The names of the drawn lines in their colours, one after the other, and what the area is."""
    parts, x = [f'<text x="{LEFT}" y="14" fill="#64748b">grey: load</text>'], LEFT + 90
    for run, colour in zip(runs, _colours(len(runs)), strict=True):
        if run.steps:
            parts.append(f'<text x="{x}" y="14" fill="{colour}" font-weight="600">{escape(run.policy)}</text>')
            x += LETTER * len(run.policy) + 2 * LETTER
    return parts


def html(trace: Trace, runs: Sequence[Run]) -> str:
    """A page with the plot, the table, and the reason of each step of the first policy that states them."""
    head = "".join(f"<th>{name}</th>" for name in ("policy", *(name for name, _ in COLUMNS)))
    rows = "".join(
        f'<tr><td><i style="background:{colour}"></i> {escape(run.policy)}</td>'
        + "".join(f"<td>{show(run)}</td>" for _, show in COLUMNS)
        + "</tr>"
        for run, colour in zip(runs, _colours(len(runs)), strict=True)
    )
    reasons = "".join(
        f"<details><summary>Why {escape(run.policy)} changed its size ({len(run.reasons)} times)</summary><ol>"
        + "".join(f"<li>{_clock(at)} {escape(text)}</li>" for at, text in run.reasons[:500])
        + "</ol></details>"
        for run in runs
        if run.reasons
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>opsq autoscale: {escape(trace.name)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(trace.name)}</h1>"
        f"<p>{trace.tasks:,} tasks in {_clock(trace.seconds)}; grey: slots that the arriving work keeps busy.</p>"
        f"{svg(trace, runs)}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{reasons}</html>"
    )


COLUMNS: Final[tuple[tuple[str, Callable[[Run], str]], ...]] = (
    ("slot-hours", lambda run: f"{run.slot_hours:.2f}"),
    ("used", lambda run: f"{run.used:.0%}"),
    ("late", lambda run: f"{run.late:.2%}"),
    ("p95 wait", lambda run: f"{run.p95_wait_s:.1f} s"),
    ("changes", lambda run: f"{run.actions}"),
    ("most slots", lambda run: f"{run.most_slots}" if run.most_slots else ""),
)


def _load(trace: Trace) -> list[float]:
    """Slot-seconds of the work that arrives per second, in bins of the plot's width."""
    width_s = trace.seconds / BINS
    work = [0.0] * (BINS + 1)
    for lane in trace.lanes:
        for at, need in zip(lane.arrivals, lane.service, strict=True):
            work[int(at / width_s)] += need / width_s
    return work[:BINS]


def _line(run: Run, seconds: float, x: Scale, y: Scale) -> str:
    words = []
    for place, (at, size) in enumerate(run.steps):
        words.append(f"M{x(at):.1f},{y(size):.1f}" if place == 0 else f"H{x(at):.1f}V{y(size):.1f}")
    return "".join([*words, f"H{x(seconds):.1f}"])


def _colours(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


def _clock(at: float) -> str:
    minutes, seconds = divmod(round(at), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
