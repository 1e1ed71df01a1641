"""The page that says why a task does not run, and the line that task and queue pages say of it. Thread: any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException

from opsq.events.diagnosis.answers import NOT_LOOKED, Looked
from opsq.events.diagnosis.asking import Question
from opsq.events.diagnosis.diagnose import diagnose
from opsq.events.diagnosis.gather import HOUR_S, question_of, queue_case, queue_of, task_case
from opsq.events.diagnosis.nodes import FINAL, Sight
from opsq.events.diagnosis.records import Diagnosis, Remedy
from opsq.events.records import TaskDetail
from opsq.web import facts
from opsq.web.access.door import Visitor
from opsq.web.act_view import ActButton, button
from opsq.web.acting import look, why_not
from opsq.web.acts import BY_NAME
from opsq.web.deps import Deps
from opsq.web.view_common import Ask
from opsq.web.view_task import task_view
from opsq.web.view_why import Told, WhyLine, WhyView, why_line_view, why_view
from opsq.wire import states

#: How long a first look may keep a reader waiting; the live page goes on with what comes later.
PAGE_S: Final = 0.5
LINE_S: Final = 0.05
API_S: Final = 5.0
#: How old the usual lengths of runs may be.
TYPES_S: Final = 5.0
LINED: Final = frozenset({states.PENDING, states.RECEIVED, states.STARTED, states.RETRY})


def why_page(deps: Deps, ask: Ask, now: float) -> tuple[str, WhyView]:
    """Build the page. Blocks on the store, and for a moment on the workers. Raises HTTPException 404."""
    task = facts.task(deps, ask.id, ask.visitor)
    if task is None:
        raise HTTPException(404, "No such task is known here")
    found = of_task(deps, task, now, PAGE_S)
    head = task_view(task, facts.usual(deps, task.item.type), deps.places, now)
    acts = tuple(_button(deps, each, ask.visitor) for each in found.remedies)
    histories = {
        each.history: deps.query.series(HOUR_S, type=each.history, width_s=60) for each in found.proofs if each.history
    }
    title = f"Why {head.name} {head.short} waits" if found.waits else f"{head.name} {head.short}, what became of it"
    return title, why_view(found, Told(head, acts, histories, now), deps.places)


def of_task(deps: Deps, task: TaskDetail, now: float, wait_s: float) -> Diagnosis:
    """Diagnose a task. wait_s: how long to wait for workers that were not asked of late."""
    question = question_of(deps.query, task, queue_of(task))
    looked = NOT_LOOKED if task.item.state in FINAL else _looked(deps, question, wait_s)
    return diagnose(task_case(_sight(deps), task, looked, now=now, lease_s=_lease_s(deps)))


def of_queue(deps: Deps, name: str, now: float, wait_s: float) -> Diagnosis:
    """Diagnose a queue: why what waits in it does not run."""
    looked = _looked(deps, question_of(deps.query, None, name), wait_s)
    return diagnose(queue_case(_sight(deps), name, looked, now=now, lease_s=_lease_s(deps)))


def line_of(deps: Deps, ask: Ask, now: float) -> WhyLine | None:
    """The sentence for the page of a task or of a queue; None where nothing waits."""
    if ask.page == "task":
        task = facts.task(deps, ask.id, ask.visitor)
        if task is None or task.item.state not in LINED:
            return None
        found = of_task(deps, task, now, LINE_S)
        href = deps.places.page("why", ask.id)
    elif ask.page == "queue":
        found, href = of_queue(deps, ask.id, now, LINE_S), ""
    else:
        return None
    return why_line_view(found, href, deps.places) if found.waits else None


def _looked(deps: Deps, question: Question, wait_s: float) -> Looked:
    if deps.eyes is None:
        return NOT_LOOKED
    if not question.nodes and wait_s < API_S:
        wait_s = LINE_S  # everybody is asked, and silence takes its whole time; the live page goes on
    return deps.eyes.look(question, wait_s) or NOT_LOOKED


def _sight(deps: Deps) -> Sight:
    return Sight(
        deps.query,
        deps.views,
        lambda window_s: deps.memo.get(("why", window_s), TYPES_S, lambda: deps.query.task_types(window_s)),
    )


def _lease_s(deps: Deps) -> float:
    return deps.eyes.lease_s if deps.eyes is not None else 30.0


def _button(deps: Deps, remedy: Remedy, visitor: Visitor) -> ActButton | None:
    """The act of a remedy with its values filled in, for those who may do it."""
    act: Any = BY_NAME.get(remedy.act)
    if act is None or act.permission not in visitor.grants:
        return None
    made = button(act, remedy.target, why_not(deps, act, look(deps, act, remedy.target)), deps.places)
    return replace(made, href=f"{made.href}&{urlencode(remedy.values)}" if remedy.values else made.href)
