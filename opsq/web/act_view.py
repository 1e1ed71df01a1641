"""What the pages show of acts: buttons, with the reason when not possible, the form that asks, the outcome. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from opsq.web import words
from opsq.web.access.door import Visitor
from opsq.web.act_fields import Field
from opsq.web.act_records import DONE, PLACES, Act, Seen
from opsq.web.acts import ACTS
from opsq.web.audit import Entry
from opsq.web.faces import task_face
from opsq.web.hands import whole_call
from opsq.web.hiding import sees_payload
from opsq.web.view_common import Places

_WORDS: Final = {
    "state": "State", "type": "Type", "queue": "Queue", "worker": "Worker", "status": "Status", "slots": "Slots",
    "running": "Running", "queues": "Queues", "waiting": "Waiting", "oldest_s": "Oldest", "workers": "Workers on it",
}  # fmt: skip
_MOST_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class ActButton:
    """A button that asks before it acts. why_not: the reason when it is not possible. file: it saves one instead.

    primary: it is what the page is left for, as a rule.
    """

    label: str
    href: str
    why_not: str
    danger: bool
    file: bool = False
    primary: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """One field of the form. value: what it shows. fault: what was wrong with what was given."""

    name: str
    label: str
    doc: str
    kind: str
    value: str
    choices: tuple[str, ...]
    required: bool
    fault: str


@dataclass(frozen=True, slots=True)
class ActForm:
    """The page that asks. facts: what is known now. typed: the text to be typed, empty when none is."""

    name: str
    of: str
    target: str
    short: str
    label: str
    doc: str
    action: str
    cancel: str
    facts: tuple[tuple[str, str], ...]
    warning: str
    inputs: tuple[Input, ...]
    typed: str
    typed_fault: str
    danger: bool
    why_not: str
    submit: str
    who: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The page that tells how it ended."""

    heading: str
    good: bool
    message: str
    target: str
    back: str
    details: tuple[tuple[str, str], ...]
    audit: str


def target_href(of: str, target: str, places: Places) -> str:
    """Where a target is shown."""
    if of == "quarantine":
        return places.to("/quarantine")
    return places.prefix + f"/{PLACES[of]}/" + quote(target, safe="")


def button(act: Act, target: str, why_not: str, places: Places) -> ActButton:
    """A button of one act."""
    return ActButton(
        act.label + "…",
        places.to(f"/act/{act.name}", target=target),
        why_not,
        act.danger,
        primary=act.name == "task-retry",
    )


def form(
    act: Act, seen: Seen, why_not: str, given: Mapping[str, str], faults: Mapping[str, str], visitor: Visitor,
    places: Places,
) -> ActForm:  # fmt: skip
    """Build the page that asks. given: what was filled in before; faults: what was wrong with it, by field."""
    shown = {**_prefilled(act, seen, visitor), **given}
    short = words.short_id(seen.target) if act.of == "task" else seen.target
    return ActForm(
        name=act.name, of=act.of, target=seen.target, short=short, label=act.label, doc=act.doc,
        action=places.to(f"/act/{act.name}"), cancel=target_href(act.of, seen.target, places),
        facts=_facts(seen), warning=_warning(act, seen),
        inputs=tuple(_input(field, shown, faults) for field in act.fields),
        typed=seen.target if act.typed else "", typed_fault=faults.get("confirm", ""), danger=act.danger,
        why_not=why_not, submit=f"{act.label}{_count(act, seen)}", who=visitor.name,
    )  # fmt: skip


def _count(act: Act, seen: Seen) -> str:
    waiting = seen.queue.ready if seen.queue is not None else None
    return f" {words.plural(waiting, 'message')}" if act.name == "queue-purge" and waiting is not None else ""


def _facts(seen: Seen) -> tuple[tuple[str, str], ...]:
    return tuple((_WORDS.get(name, name), text_of(value, name)) for name, value in seen.before().items())


def text_of(value: Any, name: str = "") -> str:
    """A value in words, cut."""
    if value is None:
        return "unknown"
    if name.endswith("_s") and isinstance(value, int | float) and not isinstance(value, bool):
        return words.duration(value)
    if isinstance(value, str):
        text = task_face(value).word if name == "state" else value
    elif isinstance(value, list | tuple):
        text = ", ".join(str(each) for each in value) or "none"
    else:
        text = msgspec.json.encode(value).decode()
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def _warning(act: Act, seen: Seen) -> str:
    """What the reader should know before."""
    if act.name in ("task-retry", "task-resend") and seen.task is not None:
        if seen.task.item.state == "SUCCESS":
            return "It has succeeded: its effects would come twice."
        if seen.task.item.state == "FAILURE":
            tries = words.plural(seen.task.item.tries, "try", "tries")
            return f"It failed on {tries}. If the cause is still there, so will this."
    if act.name == "worker-shutdown" and seen.worker is not None:
        running = seen.worker.running
        return f"{words.plural(running, 'task')} running there may end first." if running else "Nothing runs there."
    if act.name == "queue-purge":
        return "Callers that wait for a result wait until their time-out."
    return ""


def _prefilled(act: Act, seen: Seen, visitor: Visitor) -> dict[str, str]:
    if act.name != "task-resend" or seen.task is None:
        return {}
    call = whole_call(seen.task)
    if isinstance(call, str):
        return {}
    known = {"queue": call.queue or ""}
    if sees_payload(visitor):
        known["args"] = msgspec.json.encode(call.args).decode()
        known["kwargs"] = msgspec.json.encode(call.kwargs).decode()
    return known


def _input(field: Field, shown: Mapping[str, str], faults: Mapping[str, str]) -> Input:
    default = "" if field.default is None else str(field.default)
    kind = {"integer": "number", "list": "area", "object": "area", "choice": "choice"}.get(field.kind, "text")
    return Input(
        field.name, field.label, field.doc, kind, shown.get(field.name, default), field.choices,
        field.required and field.default is None, faults.get(field.name, ""),
    )  # fmt: skip


def outcome(entry: Entry, places: Places) -> Outcome:
    """Build the page that tells how an act ended."""
    act = next((each for each in ACTS if each.name == entry.act), None)
    details = _flat(entry.after)
    return Outcome(
        heading=act.label if act else entry.act, good=entry.outcome == DONE, message=entry.message, target=entry.target,
        back=target_href(act.of, entry.target, places) if act else places.to("/"), details=details,
        audit=entry.hash[:12],
    )  # fmt: skip


def _flat(after: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for name, value in after.items():
        if value is False:
            continue  # what did not happen is no news
        inner: Sequence[tuple[str, Any]] = list(value.items()) if isinstance(value, dict) else [(name, value)]
        found += [(str(key).replace("_", " "), text_of(each, str(key))) for key, each in inner[:20]]
    return tuple(found)
