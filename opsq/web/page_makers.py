"""How each page is made: reads what it shows, gives title and view. Thread: any; each blocks on the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from starlette.exceptions import HTTPException

from opsq.web import facts, facts_autoscale, facts_errors, facts_overview, facts_schedules, hiding
from opsq.web.deps import Deps
from opsq.web.terms import parse
from opsq.web.view_autoscale import autoscale_view
from opsq.web.view_common import Ask
from opsq.web.view_errors import error_view, errors_view
from opsq.web.view_flows import flow_view, flows_view
from opsq.web.view_overview import overview_view
from opsq.web.view_quarantine import quarantine_view
from opsq.web.view_queues import queue_view, queues_view
from opsq.web.view_schedules import schedule_view, schedules_view
from opsq.web.view_task import task_view
from opsq.web.view_tasks import TasksFacts, tasks_view
from opsq.web.view_type import type_view
from opsq.web.view_types import types_view
from opsq.web.view_worker import worker_view
from opsq.web.view_workers import workers_view

T = TypeVar("T")


def overview(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the overview."""
    shown = replace(ask, range=facts_overview.range_for(deps, ask))
    found = facts_overview.overview_facts(deps, shown, shown.range)
    return "Overview", overview_view(found, shown, deps.places, deps.here.broker, now)


def tasks(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the task list under its filter."""
    asked = hiding.asked_by(parse(ask.q, now), ask.visitor)
    found = TasksFacts(
        *facts.task_page(deps, asked, ask), facts.filter_points(deps, asked, ask), deps.hands is not None,
        facts.error_counts(deps, asked, ask),
    )  # fmt: skip
    return "Tasks", tasks_view(found, asked, ask, deps.places, deps.here.broker, now)


def task(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of one task. Raises HTTPException 404."""
    found = facts.task(deps, ask.id, ask.visitor)
    if found is None:
        raise HTTPException(404, "No such task is known here")
    group, around = facts.error_of(deps, found, ask), facts.around(deps, found)
    view = task_view(found, facts.usual(deps, found.item.type), deps.places, now, group, around)
    return f"{view.name} {view.short}, {view.face.word}", view


def workers(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of workers."""
    return "Workers", workers_view(facts.workers(deps), deps.places, deps.here.broker, now)


def types(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of task types."""
    return "Task types", types_view(facts.task_types(deps, ask.range), ask, deps.places, deps.here.broker)


def queues(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of queues."""
    points = facts.queue_points(deps, ask.range)
    view = queues_view(
        facts.queues(deps), points, facts.workers(deps), ask, deps.places, deps.here.broker,
        can_act=deps.hands is not None,
    )  # fmt: skip
    return "Queues", view


def queue(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of one queue. Raises HTTPException 404."""
    found = _known(facts.queue(deps, ask.id, ask), "queue")
    return f"{ask.id}, queue", queue_view(found, ask, deps.places, deps.here.broker, now)


def worker(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of one worker. Raises HTTPException 404."""
    found = _known(facts.worker(deps, ask.id, ask), "worker")
    return f"{ask.id}, worker", worker_view(found, ask, deps.places, now)


def errors(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of errors."""
    shown = ask if ask.range_given else replace(ask, range=facts.DAY)
    found = facts_errors.of_range(deps, ask.visitor, shown.range)
    return "Errors", errors_view(found, shown, deps.places, deps.here.broker, now)


def error(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of one error. Raises HTTPException 404."""
    shown = ask if ask.range_given else replace(ask, range=facts.DAY)
    found = _known(facts.error(deps, ask.id, shown), "error")
    mute = facts_errors.mutes(deps).get(ask.id)
    return f"{found.type}, error", error_view(found, facts_errors.since(deps), mute, shown, deps.places, now)


def workflows(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of workflows."""
    return "Workflows", flows_view(facts.workflows(deps), deps.places, deps.here.broker)


def workflow(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of one workflow. Raises HTTPException 404."""
    found = _known(facts.workflow(deps, ask.id), "workflow")
    return f"{found.name or ask.id}, workflow", flow_view(found, facts.usual_runs(deps), ask.q, deps.places, now)


def type(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of one task type. Raises HTTPException 404."""
    found = _known(facts.task_type(deps, ask.id, ask), "task type")
    return f"{ask.id}, task type", type_view(found, ask, deps.places, now)


def quarantine(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of messages that were set aside."""
    found, unread = facts.quarantine(deps, ask.visitor)
    return "Quarantine", quarantine_view(found, unread, "act" in ask.visitor.grants, deps.places)


def schedules(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of what runs by the clock."""
    found = facts_schedules.timetable(deps, ask.visitor)
    return "Schedules", schedules_view(found, found is not None and "tune" in ask.visitor.grants, deps.places, now)


def schedule(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of one entry. Raises HTTPException 404."""
    known = facts_schedules.timetable(deps, ask.visitor)
    entries = known.entries if known is not None else ()
    found = _known(next((each for each in entries if each.name == ask.id), None), "entry of the schedule")
    return f"{ask.id}, schedule", schedule_view(found, deps.places, now)


def autoscale(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    """Make the page of decisions about slots."""
    found = facts_autoscale.autoscale_facts(deps, ask, now)
    return "Autoscale", autoscale_view(found, ask, deps.places, deps.here.broker, now)


def _known(found: T | None, what: str) -> T:
    if found is None:
        raise HTTPException(404, f"No such {what} is known here")
    return found
