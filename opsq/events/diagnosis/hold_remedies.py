"""What helps a task that is held back on purpose: for its time, its rate, a pause, a revocation, its name. Pure."""

from __future__ import annotations

import shlex

from opsq import words
from opsq.events.diagnosis.answers import per_s
from opsq.events.diagnosis.case import Case
from opsq.events.diagnosis.effects import STARTS, starting
from opsq.events.diagnosis.forecast import NOTHING, about, free_times
from opsq.events.diagnosis.records import Effect, Forecast, Remedy


def held(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps a task that is held for its time."""
    return _call_again(case, "Call it again without waiting, and revoke this one", "at once, as a new task")


def revoked(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps when it was revoked by mistake."""
    return _call_again(
        case, "Call it again: a revocation is not taken back", "as a new task, from the end of the line", revoke=False
    )


def _call_again(case: Case, title: str, when: str, *, revoke: bool = True) -> list[Remedy]:
    id = shlex.quote(case.id)
    return [
        Remedy(
            title=title, command=f"opsq control revoke {id}" if revoke else "",
            note="Sending it again is the button, or `opsq call` with its arguments.",
            effects=(Effect("It starts", when, strong=True),), act="task-resend", target=case.id, starts_in_s=0.0,
        )
    ]  # fmt: skip


def paused(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps against a pause."""
    by_queue = case.orders.queue_paused is not None or case.orders.type_paused is None
    name = case.line.name if by_queue and case.line is not None else case.type
    if name is None:
        return []
    kind = "queue" if by_queue else "task"
    effects, starts_in_s = starting(case, NOTHING, None) if free_times(case) else ((), None)
    return [
        Remedy(
            title=f"Resume {name}", command=f"opsq control resume {kind}={shlex.quote(name)}", effects=effects,
            act="queue-resume" if by_queue else "type-resume", target=name, starts_in_s=starts_in_s,
        )
    ]  # fmt: skip


def rated(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps against a rate limit: to lift it, or to double it."""
    node, name = case.holder, case.type
    if node is None or name is None:
        return []
    limit = (node.registered or {}).get(name)
    pace, mine = per_s(limit), [one.id for one in node.waiting or () if one.eta_at is None and one.type == name]
    place = mine.index(case.id) + 1 if case.id in mine else 1
    free = (node.slots or 0) > (node.busy_slots or 0)
    now = "at once" if free and place <= (node.slots or 1) else "when it has a slot"
    instead = f" instead of in {words.duration(about(place / pace))}" if pace else ""
    on = f"opsq control -d {shlex.quote(node.name)} rate_limit {shlex.quote(name)}"
    found = [
        Remedy(
            title="Lift the limit there for an hour", command=f"{on} 0 --for 1h",
            effects=(Effect(STARTS, now + instead, strong=True), Effect("Costs", "what the limit protects")),
            act="worker-rate-limit", target=node.name, values=_limit_of(name, "0"), starts_in_s=0.0,
        )
    ]  # fmt: skip
    if pace:
        twice, half_s = f"{words.significant(pace * 2 * 60)}/m".replace(",", ""), place / pace / 2
        effect = Effect(STARTS, f"in ≈{words.NBSP}{words.duration(about(half_s))}{instead}", strong=True)
        found.append(
            Remedy(
                title="Let it start twice as often", command=f"{on} {twice} --for 1h", effects=(effect,),
                act="worker-rate-limit", target=node.name, values=_limit_of(name, twice), starts_in_s=half_s,
            )
        )  # fmt: skip
    return found


def _limit_of(name: str, rate: str) -> dict[str, str]:
    return {"task_name": name, "rate_limit": rate, "for_s": "1h"}


def unknown_name(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps when nobody knows its name."""
    queue, ended = case.line.name if case.line is not None else "the queue", case.state == "FAILURE"
    found = [
        Remedy(
            title="Start a worker whose code has the task",
            command=f"opsq worker -A your_app -Q {shlex.quote(queue)}",
            note="Workers that do not know it still take some; deploy the code to all, or give it a queue of its own.",
        )
    ]
    if ended:
        effect = Effect("It runs", "when a worker that knows it takes it", strong=True)
        found.append(
            Remedy(title="Then release it from quarantine", command=f"opsq quarantine release {shlex.quote(case.id)}",
                   effects=(effect,), act="quarantine-release", target=case.id)
        )  # fmt: skip
    return found
