"""Acting: look at the target, refuse what is not possible, do it, write it down. The same for forms and programs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException

from opsq.errors import OpsqError
from opsq.web import facts, facts_schedules
from opsq.web.access.door import Visitor
from opsq.web.act_fields import WrongField, read_fields
from opsq.web.act_records import DONE, FAILED, REFUSED, Act, Done, Seen
from opsq.web.act_view import ActButton, button
from opsq.web.acts import ACTS
from opsq.web.audit import Entry
from opsq.web.deps import Deps
from opsq.web.terms import parse

log = logging.getLogger("opsq.web")

LONGEST_TARGET: Final = 1_000
CONFIRM: Final = "confirm"
NO_ERROR: Final = "No such error is known here"


@dataclass(frozen=True, slots=True)
class By:
    """Who acts. source: their address."""

    visitor: Visitor
    source: str


class Did(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an act. audit: hash of its entry. outcome: ``done``, ``failed`` or ``refused``."""

    act: str
    target: str
    outcome: str
    message: str
    after: Mapping[str, Any] = {}
    audit: str = ""


def look(deps: Deps, act: Act, target: str) -> Seen:
    """See what is known of a target now. Blocks on the store."""
    workers = facts.workers(deps)
    up = sum(worker.status in ("online", "late") for worker in workers)
    if act.of == "task":
        return Seen(target, up, task=deps.query.task(target))
    if act.of == "worker":
        return Seen(target, up, worker=next((worker for worker in workers if worker.name == target), None))
    if act.of == "queue":
        return Seen(target, up, queue=next((queue for queue in facts.queues(deps) if queue.name == target), None))
    if act.of == "error":
        muted = deps.mutes is not None and target in deps.mutes.now()
        return Seen(target, up, muted=muted, error=deps.views.error(target))
    if act.of == "schedule":
        return Seen(target, up, entry=facts_schedules.entry(deps, target))
    return Seen(target, up)


def why_not(deps: Deps, act: Act, seen: Seen) -> str:
    """Say why an act is not possible now, empty when it is."""
    if deps.hands is None:
        return "this monitor only watches"
    if not seen.target or len(seen.target) > LONGEST_TARGET or not seen.target.isprintable():
        return f"this names no {act.of}"
    if act.of == "worker" and seen.worker is None:
        return "no worker of this name has been heard"
    if act.of == "task" and seen.task is None and act.verb != "revoke":
        return "nothing is known of this task"
    fresh = deps.query.freshness()
    if fresh.store_failing_since_at is not None:
        return "the history is not kept just now, so it could not be written down who did this"
    return act.why_not(seen)


def perform(deps: Deps, act: Act, target: str, given: Mapping[str, Any], by: By) -> Did:
    """Do it and write it down. Blocks on workers, broker and store.

    given: the fields, and for an act that cannot be undone ``confirm``, the target's name again.
    Raises WrongField for fields that cannot be taken, HTTPException 404 for an error that nobody failed with:
    nothing was done then, and nothing is written down.
    """
    confirmed = given.get(CONFIRM)
    values = read_fields(act.fields, {name: value for name, value in given.items() if name != CONFIRM})
    if act.typed and confirmed != target:
        raise WrongField({CONFIRM: f"write the name of the {act.of}: this cannot be undone"})
    seen = look(deps, act, target)
    if seen.unknown_error:
        raise HTTPException(404, NO_ERROR)
    reason = why_not(deps, act, seen)
    done = Done(REFUSED, reason, {}) if reason else _do(deps, act, seen, values)
    private = {field.name for field in act.fields if field.private}
    entry = Entry(
        at=0.0, who=by.visitor.name, how=by.visitor.how, source=by.source, act=act.name, target=target[:LONGEST_TARGET],
        outcome=done.outcome, message=done.message, before=seen.before(), after=done.after,
        values={k: "(not kept)" if k in private else v for k, v in values.items() if v is not None},
    )  # fmt: skip
    return Did(
        act=act.name, target=target, outcome=done.outcome, message=done.message, after=done.after,
        audit=write_down(deps, entry),
    )  # fmt: skip


def _do(deps: Deps, act: Act, seen: Seen, values: Mapping[str, Any]) -> Done:
    assert deps.hands is not None
    try:
        return act.run(deps.hands, seen, values)
    except OpsqError as error:
        return Done(FAILED, str(error)[:500], {})
    except Exception as error:  # boundary: whatever a broker's library throws, the act must be written down as failed
        log.exception("an act failed", extra={"act": act.name})
        return Done(FAILED, f"it failed unexpectedly ({type(error).__name__}); the monitor's log says more", {})


def write_down(deps: Deps, entry: Entry) -> str:
    """Append an entry to the audit; returns its hash, empty when it could not be kept (then the log has it)."""
    if deps.trail is None:
        return ""
    try:
        hash = deps.trail.note(entry).hash
    except OpsqError:
        # It is done already and cannot be taken back; the log is the only place left that can know.
        log.exception("an act could not be written into the audit: %s", msgspec.json.encode(entry).decode())
        return ""
    if deps.mutes is not None:
        deps.mutes.forget_age()
    return hash


def note_refusal(deps: Deps, act: str, target: str, by: By, reason: str) -> None:
    """Write down that somebody was not let through."""
    write_down(
        deps,
        Entry(
            at=0.0, who=by.visitor.name, how=by.visitor.how, source=by.source, act=act, target=target[:LONGEST_TARGET],
            outcome=REFUSED, message=reason[:500],
        ),
    )  # fmt: skip


def status_of(did: Did) -> int:
    """The HTTP status of an answer: 409 for what is not possible now, 502 for what the fleet did not do."""
    return {DONE: 200, REFUSED: 409}.get(did.outcome, 502)


def buttons_for(
    deps: Deps, of: str, target: str, visitor: Visitor, besides: frozenset[str] = frozenset()
) -> tuple[ActButton, ...]:
    """The buttons that the page of a target shows to a visitor. besides: names of acts that it offers elsewhere.

    Blocks on the store.
    """
    allowed = [act for act in ACTS if act.of == of and act.permission in visitor.grants and act.name not in besides]
    if not allowed:
        return ()
    seen = look(deps, allowed[0], target)
    return tuple(button(act, target, why_not(deps, act, seen), deps.places) for act in allowed)


def bulk_buttons(deps: Deps, q: str, visitor: Visitor) -> tuple[ActButton, ...]:
    """The buttons above the task list: acts on everything under its filter, each with a preview, and its files."""
    reason = "" if q else "needs a filter: all of history is never meant"
    if parse(q, deps.clock.now()).fault is not None:
        reason = "the search line cannot be read whole, and without a term more would be meant"
    if deps.hands is None:
        reason = "this monitor only watches"
    files = tuple(
        ActButton(label, deps.places.to(f"/api/v1/tasks.{form}", **({"q": q} if q else {})), "", False, file=True)
        for label, form in (("CSV", "csv"), ("JSON lines", "jsonl"))
    )
    if "act" not in visitor.grants:
        return files
    acts = tuple(
        ActButton(f"{verb.capitalize()} these…", deps.places.to(f"/bulk/{verb}", q=q), reason, False)
        for verb in ("retry", "revoke")
    )
    return acts + files
