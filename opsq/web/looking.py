"""Looking: ask a worker one of the questions of ``looks.py``, and take out of the answer what nobody should see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from opsq.errors import OpsqError
from opsq.masking import mask
from opsq.web import facts
from opsq.web.access.door import Visitor
from opsq.web.act_view import ActButton
from opsq.web.deps import Deps
from opsq.web.looks import LOOKS, Look

ARGUMENTS: Final = frozenset({"args", "kwargs", "argsrepr", "kwargsrepr"})
"""Left out of every answer: workers give them as they are, nothing taken out; a task's page has them redacted."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a worker said. value: its answer as data, secrets masked, arguments left out. problem: why there is none."""

    value: Any
    problem: str = ""


def ask(deps: Deps, look: Look, target: str) -> Answered:
    """Ask a worker. Blocks until it answers or two seconds (three for a stack dump) are over."""
    if deps.hands is None:
        return Answered(None, "this monitor only watches")
    worker = next((worker for worker in facts.workers(deps) if worker.name == target), None)
    if worker is None:
        return Answered(None, "no worker of this name has been heard")
    if worker.status in ("lost", "offline"):
        return Answered(None, f"it is {worker.status}, so nobody would answer")
    if look.ours and worker.software and "celery" in worker.software:
        return Answered(None, "Celery's workers do not know this command")
    try:
        told = deps.hands.order(look.command, look.arguments, (target,), 1)
    except OpsqError as error:
        return Answered(None, str(error)[:500])
    if target not in told.by_node:
        return Answered(None, "it did not answer in time; a worker whose only thread is busy answers later")
    answer = told.by_node[target]
    if isinstance(answer, Mapping) and "error" in answer:
        return Answered(None, f"it refused: {answer['error']}"[:500])
    return Answered(mask(_without_arguments(answer)))


def _without_arguments(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_arguments(each) for key, each in value.items() if key not in ARGUMENTS}
    return [_without_arguments(each) for each in value] if isinstance(value, list | tuple) else value


def look_buttons(deps: Deps, of: str, target: str, visitor: Visitor) -> tuple[ActButton, ...]:
    """The looks that stand among the buttons of a worker's or a queue's page."""
    if deps.hands is None or "act" not in visitor.grants:
        return ()
    if of == "queue":
        href = deps.places.to("/look/queue-messages", target=target)
        return (ActButton("Next to be delivered", href, "", False),)
    stack = next(look for look in LOOKS if look.verb == "stack")
    return (ActButton(stack.label, deps.places.to(f"/look/{stack.name}", target=target), "", False),)
