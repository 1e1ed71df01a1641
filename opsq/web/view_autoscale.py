"""The page about slots: who scales, what was decided, and the bounds and inputs of each decision. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opsq.autoscale.account import in_force
from opsq.autoscale.explain import (
    INPUTS,
    MODES,
    NAMES,
    OF_ENTRIES,
    asked,
    decided_by,
    finding,
    held_back,
    input_text,
    reason,
)
from opsq.events.decisions import DecidedBound, DecisionItem
from opsq.events.records import Point
from opsq.web import charts, words
from opsq.web.charts_data import COUNT, SECONDS, Line
from opsq.web.facts_autoscale import AutoscaleFacts
from opsq.web.view_charts import HEIGHT, TALL, Finding, Frame, drawn
from opsq.web.view_common import Ask, Head, Places, range_links, row_id
from opsq.web.view_range import Ranges
from opsq.web.view_what_if import WhatIfView, what_if_view

SPARK: Final = 60
#: Lines of bounds by their kind, in this order.
KINDS: Final = (("need", "asks"), ("cap", "allows"), ("floor", "holds"))
LATE_S: Final = 10.0
HEADS: Final = (
    Head("Group"), Head("Mode"), Head("Has", "num"), Head("Wants", "num"), Head("Range", "num p2"),
    Head("Slots", "p2"), Head("Last decision"), Head("Slot hours today", "num p3"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One scaling group."""

    id: str
    name: str
    href: str
    css: str
    word: str
    mode: str
    has: str
    wants: str
    held: bool
    range: str
    spark: charts.Trace | None
    last: str
    hours: str
    current: bool


@dataclass(frozen=True, slots=True)
class BoundRow:
    """One bound as a bar, in percent of the most slots. text: the reason."""

    name: str
    slots: str
    percent: float
    text: str
    css: str = ""
    decides: bool = False


@dataclass(frozen=True, slots=True)
class DecisionLine:
    """One line of the list of decisions."""

    at: float
    clock: str
    group: str
    href: str
    slots: str
    because: str
    by: str
    bad: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """One group in full. bounds: (kind, rows). inputs: (label, value, age, whether it is old)."""

    id: str
    name: str
    strong: str
    sentence: str
    charts: tuple[charts.Chart, ...]
    at: str
    bounds: tuple[tuple[str, tuple[BoundRow, ...]], ...]
    most: str
    inputs: tuple[tuple[str, str, str, bool], ...]
    used: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AutoscaleView:
    """The page."""

    sentence: str
    ranges: Ranges
    range_label: str
    heads: tuple[Head, ...]
    groups: tuple[GroupRow, ...]
    chosen: Chosen | None
    decisions: tuple[DecisionLine, ...]
    what_if: WhatIfView | None
    broker: str


def autoscale_view(facts: AutoscaleFacts, ask: Ask, places: Places, broker: str, now: float) -> AutoscaleView:
    """Build the page."""
    held = [one for one in facts.groups if held_back(one)]
    until = ask.range.end_at or now
    rows = tuple(
        _group_row(one, facts.drawn[one.group], (until - ask.range.length_s, until), ask, places, facts.chosen)
        for one in sorted(facts.groups, key=lambda one: (not held_back(one), one.group))
    )
    return AutoscaleView(
        sentence=_sentence(facts.groups, held),
        ranges=range_links(ask, places, "/autoscale"),
        range_label=ask.range.said,
        heads=HEADS,
        groups=rows,
        chosen=None if facts.chosen is None else _chosen(facts.chosen, facts, now),
        decisions=tuple(_line(one, ask, places) for one in facts.latest),
        what_if=None if facts.what_if is None or facts.chosen is None
        else what_if_view(facts.what_if, facts.chosen.group, ask, places),
        broker=broker,
    )  # fmt: skip


def _sentence(groups: Sequence[DecisionItem], held: Sequence[DecisionItem]) -> str:
    if not groups:
        return "Nothing is scaled"
    said = words.plural(len(groups), "group")
    if not held:
        return f"{said}, none held back"
    guards = sorted({NAMES.get(one.capped_by or "", "") for one in held})
    return f"{said}, {len(held)} held back by {' and '.join(guards)}"


def _group_row(
    item: DecisionItem, told: Sequence[DecisionItem], span: tuple[float, float], ask: Ask, places: Places,
    chosen: DecisionItem | None,
) -> GroupRow:  # fmt: skip
    held, width_s = held_back(item), (span[1] - span[0]) / SPARK
    there = in_force(told, [span[0] + width_s * (number + 1) for number in range(SPARK)])
    slots = [None if one is None else float(one.slots) for one in there]
    css, word = ("bad", "held back") if held else ("unknown", "signals are missing") if item.mode == "blind" else (
        "ok", "as it should be")  # fmt: skip
    return GroupRow(
        id=row_id(item.group), name=item.group, href=places.to("/autoscale") + ask.query(q=item.group),
        css=css, word=word,
        mode=f"{MODES.get(item.mode, item.mode)}, {item.preset}" if item.preset else MODES.get(item.mode, item.mode),
        has=words.count(item.slots), wants=words.count(asked(item)), held=held,
        range=words.UNKNOWN if item.max is None else f"{item.min or 0} to {item.max}",
        spark=charts.spark(slots, width=120) if any(one is not None for one in slots) else None,
        last=finding(item), hours=words.UNKNOWN if item.spent is None else f"{item.spent:.1f}",
        current=chosen is not None and chosen.group == item.group,
    )  # fmt: skip


def _chosen(item: DecisionItem, facts: AutoscaleFacts, now: float) -> Chosen:
    text = reason(item)
    used = facts.day
    saved = f"{used.saved_hours:+.1f}".replace("+", "") if item.mode == "dry" else ""
    return Chosen(
        id=row_id(item.group),
        name=item.group,
        strong=_upper(finding(item)),
        sentence=_upper(text) + "." if text else "",
        charts=_charts(item, facts, now),
        at=words.clock_seconds(item.at),
        bounds=_bounds(item),
        most=words.plural(item.max, "slot") if item.max is not None else "",
        inputs=_inputs(item, now),
        used=(
            ("Slot hours", f"{used.slot_hours:.1f}"),
            *((("Following it", f"{used.decided_hours:.1f}"), ("Would save", f"{saved} slot hours")) if saved else ()),
            ("Changes", words.count(used.changes)),
            ("Most slots", words.count(used.most)),
            ("Told", f"{words.duration(used.covered_s)} of 24{words.NBSP}h"),
        ),
    )  # fmt: skip


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _charts(item: DecisionItem, facts: AutoscaleFacts, now: float) -> tuple[charts.Chart, ...]:
    points = facts.points[0] if facts.points else ()
    if not points:
        return ()
    there = in_force(facts.of_chosen, [min(now, point.at + point.width_s) for point in points])
    has = [None if one is None else float(one.slots) for one in there]
    wants = [None if one is None else float(asked(one)) for one in there]
    busy = [None if one is None else float(one.running) for one in there]
    lines = (
        Line("has", "has", "running thick", has, COUNT, steps=True),
        Line("wants", "wants", "want", wants, COUNT, steps=True),
        # As steps too: a slope would show more slots busy than there were.
        Line("busy", "busy", "plain area", busy, COUNT, area=True, steps=True),
    )
    scale = charts.linear([line.values for line in lines], TALL)
    newest = {"has": float(item.slots), "wants": float(asked(item)), "busy": float(item.running)}
    cap = next((one for one in item.bounds if one.name == item.capped_by and held_back(item)), None)
    limit = None
    if cap is not None and cap.slots is not None:
        label = f"{NAMES.get(cap.name, cap.name)} allows {words.significant(cap.slots)}"
        limit = charts.Tick(label, round(scale.to_y(cap.slots), 1))
    slots = drawn(
        Frame("slots", "Slots", "", TALL), lines, points, now, scale,
        Finding(f"Slots of {item.group}: has {item.slots}, wants {asked(item)}, {item.running} busy.", newest, limit),
    )  # fmt: skip
    return slots, _oldest(item, facts.points, now)


def _oldest(item: DecisionItem, points: Sequence[Sequence[Point]], now: float) -> charts.Chart:
    target_s = item.slo or 5.0
    values = [_most([at.oldest_max_s for at in bucket]) for bucket in zip(*(points[1:] or points[:1]), strict=False)]
    line = Line("oldest", "oldest", "age", values, SECONDS)
    scale = charts.logarithmic([values, [target_s]], HEIGHT)
    newest = next((value for value in reversed(values[-3:]) if value is not None), None)
    bad = frozenset({"oldest"} if newest is not None and newest > target_s else ())
    said = words.duration(target_s)
    return drawn(
        Frame("oldest", "Oldest waiting", "log scale", HEIGHT, axis=True, bad=bad), (line,), points[0], now, scale,
        Finding(f"Age of the oldest waiting task: {line.say(newest)} now, target {said}.", {"oldest": newest},
                charts.Tick(f"target, {said}", round(scale.to_y(target_s), 1))),
    )  # fmt: skip


def _most(values: Sequence[float | None]) -> float | None:
    return max((max(value, 1e-4) for value in values if value is not None), default=None)


def _bounds(item: DecisionItem) -> tuple[tuple[str, tuple[BoundRow, ...]], ...]:
    full = float(max(1, item.max or max((int(one.slots or 0) for one in item.bounds), default=1)))
    deciding = item.capped_by if held_back(item) else item.winner
    groups = [
        (
            label,
            tuple(_bound(one, full, one.name == deciding, held_back(item)) for one in item.bounds if one.kind == kind),
        )
        for kind, label in KINDS
    ]
    has = BoundRow("now", words.count(item.slots), _share(float(item.slots), full), "", "running")
    return (*((label, rows) for label, rows in groups if rows), ("has", (has,)))


def _bound(one: DecidedBound, full: float, decides: bool, held: bool) -> BoundRow:
    slots = words.UNKNOWN if one.slots is None else words.significant(float(f"{one.slots:.3g}"))
    css = "bad" if decides and held else ""
    return BoundRow(
        NAMES.get(one.name, one.name), slots, _share(one.slots or 0.0, full), one.text, css, decides and held
    )


def _share(slots: float, full: float) -> float:
    return round(min(100.0, 100 * slots / full), 1)


def _inputs(item: DecisionItem, now: float) -> tuple[tuple[str, str, str, bool], ...]:
    queues = {one.queue for one in item.signals if one.queue and one.name not in OF_ENTRIES}
    found = []
    for one in item.signals:
        if one.name not in INPUTS:
            continue
        named = one.queue and (len(queues) > 1 or one.name in OF_ENTRIES)
        label = INPUTS[one.name] + (f", {one.queue}" if named else "")
        old_s = None if one.age_s is None or one.age_s < 0 else one.age_s + max(0.0, now - item.at)
        age = "age unknown" if old_s is None else f"{words.duration(old_s)} old"
        found.append((label, input_text(one.value, one.unit), age, one.age_s is None or not 0 <= one.age_s <= LATE_S))
    return tuple(found)


def _line(item: DecisionItem, ask: Ask, places: Places) -> DecisionLine:
    slots = f"{item.have} → {item.target}" if item.changed else f"kept {item.have}"
    return DecisionLine(
        item.at, words.clock_seconds(item.at), item.group, places.to("/autoscale") + ask.query(q=item.group),
        slots if item.mode != "dry" else f"would {slots}", _upper(reason(item)), decided_by(item), held_back(item),
    )  # fmt: skip
