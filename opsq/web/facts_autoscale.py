"""What the page about slots is made from, read at one moment. Blocks on the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opsq.autoscale import recorded
from opsq.autoscale.account import Account, account
from opsq.autoscale.explain import held_back
from opsq.autoscale.oracle import oracle
from opsq.autoscale.presets import PRESETS, Limits, preset
from opsq.autoscale.replayed import replayed
from opsq.autoscale.rules import fixed, rule
from opsq.autoscale.simulator import Run, simulate
from opsq.errors import UsageError
from opsq.events.decisions import DecisionItem
from opsq.events.records import Point
from opsq.web import facts
from opsq.web.deps import Deps
from opsq.web.view_common import Ask

#: A group that has said nothing for so long is left out.
GONE_S: Final = 86_400.0
DAY_S: Final = 86_400.0
LATEST: Final = 40
#: Decisions that a chart is made of; of more, the newest.
MOST_DRAWN: Final = 20_000
#: More tasks than this are replayed by the command only: a page answers soon.
MOST_REPLAYED: Final = 150_000
WHAT_IF_S: Final = 60.0
MOST_SLOTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Replays of the last day: what was, with other limits, the bounds of what is possible; or why there is none."""

    least: int
    most: int
    within_s: float
    preset: str
    runs: tuple[tuple[str, str, Run], ...] = ()
    refused: str = ""
    asked: bool = False


@dataclass(frozen=True, slots=True)
class AutoscaleFacts:
    """groups: the newest decision of each. chosen: the one shown in full. of_chosen: its decisions in the range.

    drawn: those of every group, for the small lines. latest: changes of all groups. points: the time axis, then the
    history of the chosen group's queues. day: what the chosen group used in a day.
    """

    groups: tuple[DecisionItem, ...]
    chosen: DecisionItem | None
    of_chosen: tuple[DecisionItem, ...]
    drawn: dict[str, tuple[DecisionItem, ...]]
    latest: tuple[DecisionItem, ...]
    points: tuple[Sequence[Point], ...]
    day: Account
    what_if: WhatIf | None


def autoscale_facts(deps: Deps, ask: Ask, now: float) -> AutoscaleFacts:
    """Read everything for the page."""
    until = ask.range.end_at or now
    since = until - ask.range.length_s
    views = deps.views
    groups = views.scaled_groups(max(since, now - GONE_S) if ask.range.end_at is None else since)
    # The first of the table: what is held back comes before everything else.
    worst = min(groups, key=lambda one: (not held_back(one), one.group), default=None)
    chosen = next((one for one in groups if one.group == ask.q), worst)
    if chosen is None:
        return AutoscaleFacts((), None, (), {}, (), (), Account(), None)
    drawn = {
        one.group: views.decisions(since, until + 1, group=one.group, limit=MOST_DRAWN // max(1, len(groups)))
        for one in groups
    }
    latest = views.decisions(since, until + 1, changed=True, limit=LATEST)
    points = (facts.series_over(deps, ask.range), *_history(deps, ask, chosen))
    day = account(views.decisions(now - DAY_S, now, group=chosen.group, limit=MOST_DRAWN), now)
    return AutoscaleFacts(groups, chosen, drawn[chosen.group], drawn, latest, points, day, _what_if(deps, ask, chosen))


def _history(deps: Deps, ask: Ask, chosen: DecisionItem) -> list[Sequence[Point]]:
    history = facts.queue_points(deps, ask.range)
    return [history[name] for name in chosen.queues if name in history]


def _what_if(deps: Deps, ask: Ask, chosen: DecisionItem) -> WhatIf:
    given = dict(ask.what)
    least, most = _whole(given.get("least"), chosen.min or 0), _whole(given.get("most"), chosen.max or 64)
    form = WhatIf(
        least=min(least, most), most=max(1, least, most), within_s=_seconds(given.get("within"), chosen.slo or 5.0),
        preset=given.get("preset") if given.get("preset") in PRESETS else chosen.preset or "balanced",  # type: ignore[arg-type]
        asked=bool(given),
    )  # fmt: skip
    if not given:
        return form
    key = ("what-if", chosen.group, form.least, form.most, form.within_s, form.preset)
    return deps.memo.get(key, WHAT_IF_S, lambda: _replayed(deps, chosen, form))


def _replayed(deps: Deps, chosen: DecisionItem, form: WhatIf) -> WhatIf:
    now = deps.clock.now()
    queue = chosen.queues[0] if len(chosen.queues) == 1 else None
    decisions = deps.views.decisions(now - DAY_S, now, group=chosen.group, limit=MOST_DRAWN)
    # From the first decision on: nobody knows how many slots there were before.
    window_s = min(DAY_S, max(60.0, now - min((one.at for one in decisions), default=now)))
    try:
        trace = recorded.from_history(deps.views, now, window_s, queue=queue, most_tasks=MOST_REPLAYED)
    except UsageError as error:
        return _with(form, refused=str(error))
    kind = form.preset if form.preset in PRESETS else "balanced"
    limits = Limits(
        fewest=max(1, form.least), most=max(1, form.most), slo_s=form.within_s, preset=preset(kind), startup_s=0.2
    )
    wide = Limits(fewest=1, most=max(MOST_SLOTS, form.most), slo_s=form.within_s, startup_s=0.0)
    named = "opsq" if kind == "balanced" else f"opsq_{kind}"
    runs = (
        ("As it was", "its own sizes", simulate(trace, replayed(decisions, now - window_s), wide)),
        ("As asked", f"{limits.fewest} to {limits.most}, {kind}", simulate(trace, rule(named), limits)),
        (f"Always {limits.most} slots", "", simulate(trace, fixed(limits.most), limits)),
        ("Perfect knowledge", "the least possible", oracle(trace, limits)),
    )
    return _with(form, runs=runs)


def _with(form: WhatIf, *, runs: tuple[tuple[str, str, Run], ...] = (), refused: str = "") -> WhatIf:
    return WhatIf(form.least, form.most, form.within_s, form.preset, runs, refused, asked=True)


def _whole(text: str | None, otherwise: int) -> int:
    return min(MOST_SLOTS, int(text)) if text and text.isdecimal() and len(text) < 6 else otherwise


def _seconds(text: str | None, otherwise: float) -> float:
    number = (text or "").removesuffix("s").strip()
    try:
        value = float(number)
    except ValueError:
        return otherwise
    return value if 0.01 <= value <= DAY_S else otherwise
