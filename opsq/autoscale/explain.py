"""A decision in sentences, the same on the page, in the terminal and for programs. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from opsq.events.decisions import DecidedBound, DecisionItem
from opsq.words import duration, plural, size

NAMES: Final[Mapping[str, str]] = {
    "steady": "steady load",
    "drain": "drain in time",
    "gauge": "own measure",
    "due": "schedule",
    "rule": "the rule",
    "useful": "use at most",
    "most": "range",
    "min": "range, least",
    "cpu": "CPU",
    "memory": "memory",
    "memory_full": "memory, nearly full",
    "oom": "memory, after a kill",
    "io": "disk",
    "connections": "connections",
    "knee": "no gain beyond",
    "failing": "failing work",
    "cost": "cost cap",
    "blind": "no signals",
    "clock": "clock",
}
"""Bounds as people read them."""
#: What keeps a group from having what its load asks for; the others only say that more would be idle.
HELD_BACK: Final = frozenset(NAMES) - {"steady", "drain", "gauge", "due", "rule", "useful", "min", "blind", "clock"}
INPUTS: Final[Mapping[str, str]] = {
    "waiting": "Wait",
    "oldest": "Oldest",
    "arrive": "Arrive",
    "arrive_now": "Arrive, 15 s",
    "run": "Run, mean",
    "long_tasks": "Long tasks",
    "cpu_share": "CPU of a task",
    "cpu_busy": "CPU in use",
    "child_memory": "Memory a slot",
    "memory_used": "Memory used",
    "memory_limit": "Memory limit",
    "io_pressure": "Disk pressure",
    "gauge": "Own measure",
    "gauge_per_slot": "of it a slot",
    "due_in": "Due in",
    "due_tasks": "Brings",
}
#: Inputs that are of an entry of a schedule, not of a queue.
OF_ENTRIES: Final = frozenset({"due_in", "due_tasks"})
MODES: Final[Mapping[str, str]] = {
    "live": "live",
    "local": "live, own signals only",
    "blind": "held, no signals",
    "dry": "dry run",
}


def asked(item: DecisionItem) -> int:
    """Slots that the load asked for before anything held it back, within the range."""
    needs = [bound.slots for bound in item.bounds if bound.kind == "need" and bound.slots is not None]
    useful = next((bound.slots for bound in item.bounds if bound.name == "useful"), None)
    wanted = max(needs, default=float(item.want))
    wanted = wanted if useful is None else min(wanted, useful)
    most = math.inf if item.max is None else item.max
    return int(max(item.want, min(math.ceil(wanted - 1e-9), most)))


def held_back(item: DecisionItem) -> bool:
    """Whether something keeps the group from having what its load asks for."""
    return item.capped_by in HELD_BACK and asked(item) > item.target


def finding(item: DecisionItem) -> str:
    """What was decided, in one short sentence without a stop."""
    if item.mode == "dry" and item.applied is not None and item.applied != item.target:
        return f"would have {item.target}, has {item.applied}"
    if item.mode == "blind":
        return f"kept {item.have}: signals are missing"
    if held_back(item):
        did = f"kept {item.have}" if not item.changed else f"{item.have} → {item.target}"
        return f"{did}, wants {asked(item)}: {NAMES.get(item.capped_by or '', item.capped_by)} allows {item.target}"
    if item.changed:
        return f"{item.have} → {item.target}"
    if item.want < item.have:
        hold = f": {duration(item.hold)} of hold left" if item.hold else ""
        return f"kept {item.have}, wants {item.want}{hold}"
    return f"kept {item.have}"


def reason(item: DecisionItem) -> str:
    """Why, in the words of the bounds that decided; empty when the record says nothing."""
    said = [one.text for name in (item.winner, item.capped_by) if (one := bound(item, name)) is not None and one.text]
    return "; ".join(_sentence(text) for text in said).replace("`", "") if said else item.text


def bound(item: DecisionItem, name: str | None) -> DecidedBound | None:
    """Find a bound; None when it took no part."""
    return next((one for one in item.bounds if one.name == name), None)


def decided_by(item: DecisionItem) -> str:
    """The bound that set the size, as people read it."""
    if item.changed and item.target < item.have and not held_back(item):
        return "hold over"
    name = item.capped_by if held_back(item) else item.winner
    return NAMES.get(name or "", name or "")


def input_text(value: float | None, unit: str) -> str:
    """One input with its unit."""
    if value is None:
        return "unknown"
    if unit == "s":
        return duration(value)
    if unit == "bytes":
        return size(round(value))
    if unit in ("tasks", "slots"):
        return plural(round(value), unit[:-1])
    return f"{value:.3g} {unit}".strip()


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
