"""The control table of a worker's page: small forms that lead to the preview of an act, already filled in. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import WorkerItem
from opsq.web import words
from opsq.web.access.door import Visitor
from opsq.web.act_fields import Field
from opsq.web.act_records import Seen
from opsq.web.acts import BY_NAME
from opsq.web.view_common import Places

MOST_QUEUES: Final = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a small form. kind: ``number``, ``text``, ``choice`` or ``given`` (shown, not asked)."""

    name: str
    label: str
    kind: str
    value: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Knob:
    """One small form. label: of its button, which stands before the entries, or after them."""

    action: str
    label: str
    entries: tuple[Entry, ...]
    button_last: bool = False


@dataclass(frozen=True, slots=True)
class ControlRow:
    """What can be turned about one side of the worker. said: how it stands now."""

    label: str
    knobs: tuple[Knob, ...]
    said: str


@dataclass(frozen=True, slots=True)
class Control:
    """The table. why_not: in words why nothing of it is possible now, else empty. types: task types to choose from.

    beware: what to expect of a worker that is silent.
    """

    target: str
    rows: tuple[ControlRow, ...]
    why_not: str
    types: tuple[str, ...]
    beware: str


@dataclass(frozen=True, slots=True)
class _Turn:
    """A row of the table below: an act, what its button says, which of its fields stand beside it."""

    act: str
    button: str
    fields: tuple[str, ...]
    button_last: bool = False


_ROWS: Final[tuple[tuple[str, tuple[_Turn, ...]], ...]] = (
    ("Pool", (_Turn("worker-grow", "Grow by", ("n",)), _Turn("worker-shrink", "Shrink by", ("n",)))),
    ("Autoscale", (_Turn("worker-autoscale", "Set…", ("min", "max"), button_last=True),)),
    ("Queues", (_Turn("worker-add-queue", "Take from…", ("queue",)),)),
    ("Rate limit", (_Turn("worker-rate-limit", "Limit…", ("task_name", "rate_limit"), button_last=True),)),
    ("Time limit", (_Turn("worker-time-limit", "Limit…", ("task_name", "soft", "hard"), button_last=True),)),
    ("Log level", (_Turn("worker-log-level", "Set…", ("level",), button_last=True),)),
)
_LEAVE: Final = _Turn("worker-cancel-queue", "Leave…", ("queue",), button_last=True)
INLINE: Final = frozenset({turn.act for _, turns in _ROWS for turn in turns} | {_LEAVE.act})
"""Names of the acts that stand in the table; the others are buttons in the head of the page."""


def control(worker: WorkerItem, types: Sequence[str], visitor: Visitor, places: Places) -> Control | None:
    """Build the table of what a visitor may turn; None when that is nothing."""
    rows = []
    for label, turns in _ROWS:
        allowed = [turn for turn in turns if BY_NAME[turn.act].permission in visitor.grants]
        if not allowed:
            continue
        knobs = tuple(_knob(turn, places) for turn in allowed)
        if label == "Queues":
            knobs = (*(_knob(_LEAVE, places, queue) for queue in worker.queues[:MOST_QUEUES]), *knobs)
        rows.append(ControlRow(label, knobs, _said(label, worker)))
    if not rows:
        return None
    why_not = BY_NAME["worker-grow"].why_not(Seen(worker.name, worker=worker))
    beware = "it is late: it hears orders when it answers again" if worker.status == "late" else ""
    return Control(worker.name, tuple(rows), why_not, tuple(types), beware)


def _knob(turn: _Turn, places: Places, given: str = "") -> Knob:
    act = BY_NAME[turn.act]
    fields = {field.name: field for field in act.fields}
    entries = tuple(Entry(name, name, "given", given) if given else _entry(fields[name]) for name in turn.fields)
    return Knob(places.to(f"/act/{act.name}"), turn.button, entries, turn.button_last)


def _entry(field: Field) -> Entry:
    kind = {"integer": "number", "number": "number", "choice": "choice"}.get(field.kind, "text")
    default = "" if field.default is None else str(field.default)
    return Entry(field.name, field.label, kind, default, field.choices, field.required and field.default is None)


def _said(label: str, worker: WorkerItem) -> str:
    if label == "Pool":
        slots = words.plural(worker.slots, "slot") if worker.slots is not None else "slots unknown"
        return f"{slots}, {worker.pool}" if worker.pool else slots
    if label == "Autoscale":
        told = worker.details.get("autoscaler") or worker.details.get("autoscale")
        return f"now {told}"[:80] if told else ""
    if label == "Queues" and len(worker.queues) > MOST_QUEUES:
        return f"and {len(worker.queues) - MOST_QUEUES} more"
    return ""
