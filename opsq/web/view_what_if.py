"""Another size for yesterday's load: the form of the page about slots, and the comparison it answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from opsq.autoscale.presets import PRESETS
from opsq.autoscale.simulator import Run
from opsq.web import words
from opsq.web.facts_autoscale import WhatIf
from opsq.web.view_common import Ask, Places


@dataclass(frozen=True, slots=True)
class WhatIfRow:
    """One line of the comparison."""

    name: str
    small: str
    cells: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, slots=True)
class WhatIfView:
    """The form and its answer. fields: what was asked. refused: why nothing was replayed."""

    action: str
    group: str
    range_key: str
    least: str
    most: str
    within: str
    preset: str
    presets: tuple[str, ...]
    rows: tuple[WhatIfRow, ...]
    refused: str
    asked: bool


def what_if_view(found: WhatIf, group: str, ask: Ask, places: Places) -> WhatIfView:
    """Build the form with what was asked, and the comparison where there is one."""
    late = f"Later than {words.duration(found.within_s)}"
    return WhatIfView(
        action=places.to("/autoscale"), group=group, range_key=ask.range.key if ask.range_given else "",
        least=str(found.least), most=str(found.most), within=f"{found.within_s:g}", preset=found.preset,
        presets=tuple(PRESETS),
        rows=tuple(WhatIfRow(name, small, _cells(run, late)) for name, small, run in found.runs),
        refused=found.refused, asked=found.asked,
    )  # fmt: skip


def _cells(run: Run, late: str) -> tuple[tuple[str, str, bool], ...]:
    return (
        ("Slot hours", f"{run.slot_hours:.1f}", False),
        ("Wait p95", words.duration(run.p95_wait_s), False),
        (late, words.percent(run.late), run.late > 0.01),
        ("Most slots", words.count(run.most_slots) if run.most_slots else words.NOT_APPLICABLE, False),
        ("Changes", words.count(run.actions) if run.policy != "oracle" else words.NOT_APPLICABLE, False),
    )
