"""The pages as a table: template, regions that live, and how the view is made. One row, one page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from starlette.exceptions import HTTPException

from opsq.web import facts, hiding
from opsq.web.act_view import ActButton
from opsq.web.acting import bulk_buttons, buttons_for
from opsq.web.deps import Deps
from opsq.web.terms import parse
from opsq.web.view_common import Ask
from opsq.web.view_errors import error_view, errors_view
from opsq.web.view_flows import flow_view, flows_view
from opsq.web.view_overview import overview_view
from opsq.web.view_quarantine import quarantine_view
from opsq.web.view_queues import queue_view, queues_view
from opsq.web.view_shell import Shell, shell
from opsq.web.view_task import task_view
from opsq.web.view_tasks import TasksFacts, tasks_view
from opsq.web.view_type import type_view
from opsq.web.view_types import types_view
from opsq.web.view_worker import worker_view
from opsq.web.view_workers import workers_view

T = TypeVar("T")

FAST_S: Final = 0.0
SLOW_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a page that is replaced when it changes. id: of its element. every_s: not more often than this."""

    id: str
    template: str
    every_s: float = FAST_S


@dataclass(frozen=True, slots=True)
class Page:
    """One page. make: builds title and view from what was asked. has_rows: it holds the live task list.

    keyed: it is about one thing, whose id or name stands in the URL.
    """

    name: str
    template: str
    regions: tuple[Region, ...]
    make: Callable[[Deps, Ask, float], tuple[str, Any]]
    has_rows: bool = False
    keyed: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A page ready to be written."""

    page: Page
    shell: Shell
    view: Any
    now: float
    acts: tuple[ActButton, ...] = ()

    def context(self) -> dict[str, Any]:
        """Give the templates what they read."""
        return {"shell": self.shell, "view": self.view, "now": self.now, "acts": self.acts}


def make_page(page: Page, deps: Deps, ask: Ask) -> Made:
    """Read the monitor and build a page. Blocks on the store. Raises HTTPException 404 for a task unknown here."""
    now = deps.clock.now()
    title, view = page.make(deps, ask, now)
    live = "" if ask.before is not None else deps.places.to(f"/live/{page.name}") + ask.query(**_id_param(ask))
    around = shell(title, deps.query.overview(), ask, deps.here, deps.places, live=live, now=now)
    acts = buttons_for(deps, page.name, ask.id, ask.visitor) if page.keyed else ()
    if page.name == "tasks":
        acts = bulk_buttons(deps, ask.q, ask.visitor)
    return Made(page, around, view, now, acts)


def _id_param(ask: Ask) -> dict[str, str]:
    return {"id": ask.id} if ask.id else {}


def _overview(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    shown = replace(ask, range=facts.range_for(deps, ask))
    found = facts.overview_facts(deps, ask, shown.range)
    return "Overview", overview_view(found, shown, deps.places, deps.here.broker, now)


def _tasks(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    asked = hiding.asked_by(parse(ask.q, now), ask.visitor)
    found = TasksFacts(*facts.task_page(deps, asked, ask), facts.filter_points(deps, asked, ask))
    return "Tasks", tasks_view(found, asked, ask, deps.places, deps.here.broker, now)


def _task(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    found = facts.task(deps, ask.id, ask.visitor)
    if found is None:
        raise HTTPException(404, "No such task is known here")
    view = task_view(found, facts.usual(deps, found.item.type), deps.places, now, facts.error_of(deps, found, ask))
    return f"{view.name} {view.short}, {view.face.word}", view


def _workers(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    return "Workers", workers_view(facts.workers(deps), deps.places, deps.here.broker, now)


def _types(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    return "Task types", types_view(facts.task_types(deps, ask.range), ask, deps.places, deps.here.broker)


def _queues(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    points = facts.queue_points(deps, ask.range)
    view = queues_view(facts.queues(deps), points, facts.workers(deps), ask, deps.places, deps.here.broker)
    return "Queues", view


def _queue(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    found = _known(facts.queue(deps, ask.id, ask), "queue")
    return f"{ask.id}, queue", queue_view(found, ask, deps.places, deps.here.broker, now)


def _worker(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    found = _known(facts.worker(deps, ask.id, ask), "worker")
    return f"{ask.id}, worker", worker_view(found, ask, deps.places, now)


def _errors(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    found = facts.errors(deps, ask.visitor)
    return "Errors", errors_view(found, facts.last_start(deps), deps.places, deps.here.broker, now)


def _error(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    shown = ask if ask.range_given else replace(ask, range=facts.DAY)
    found = _known(facts.error(deps, ask.id, shown), "error")
    return f"{found.type}, error", error_view(found, facts.last_start(deps), shown, deps.places, now)


def _workflows(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    return "Workflows", flows_view(facts.workflows(deps), deps.places, deps.here.broker)


def _workflow(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    found = _known(facts.workflow(deps, ask.id), "workflow")
    return f"{found.name or ask.id}, workflow", flow_view(found, facts.usual_runs(deps), ask.q, deps.places, now)


def _type(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    found = _known(facts.task_type(deps, ask.id, ask), "task type")
    return f"{ask.id}, task type", type_view(found, ask, deps.places, now)


def _quarantine(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    found, unread = facts.quarantine(deps, ask.visitor)
    return "Quarantine", quarantine_view(found, unread, "act" in ask.visitor.grants, deps.places)


def _schedules(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    return "Schedules", Later("No schedule has been seen", "Entries of the scheduler stand here with their last and "
                              "next run once one is started.", "opsq beat -A your_app")  # fmt: skip


def _autoscale(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    return "Autoscale", Later("Nothing is scaled", "Decisions stand here with their reasons once a worker is started "
                              "with a range of slots.", "opsq worker -A your_app --autoscale=16,2")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Later:
    """A page that has nothing to show yet: what it is for and the command that begins it."""

    sentence: str
    text: str
    command: str


def _known(found: T | None, what: str) -> T:
    if found is None:
        raise HTTPException(404, f"No such {what} is known here")
    return found


_EVERYWHERE: Final = (
    Region("banner-monitor", "regions/banner.html"),
    Region("status", "regions/strip.html"),
    Region("foot", "regions/foot.html", SLOW_S),
)

_ACTS: Final = Region("acts", "regions/acts.html", SLOW_S)

PAGES: Final = (
    Page(
        "overview",
        "pages/overview.html",
        (
            *_EVERYWHERE,
            Region("verdict", "regions/verdict.html"),
            Region("troubles", "regions/troubles.html", SLOW_S),
            Region("charts", "regions/charts.html", SLOW_S),
            Region("aside", "regions/aside.html"),
            Region("queues", "regions/queues.html", SLOW_S),
            Region("workers", "regions/workers.html", SLOW_S),
            Region("types", "regions/types.html", SLOW_S),
        ),
        _overview,
    ),
    Page(
        "tasks",
        "pages/tasks.html",
        (
            *_EVERYWHERE,
            Region("facets", "regions/facets.html", SLOW_S),
            Region("filter-chart", "regions/filter_chart.html", SLOW_S),
            Region("task-count", "regions/task_count.html", SLOW_S),
            Region("no-task", "regions/no_task.html"),
            Region("pager", "regions/pager.html", SLOW_S),
        ),
        _tasks,
        has_rows=True,
    ),
    Page(
        "task",
        "pages/task.html",
        (
            *_EVERYWHERE,
            Region("task-head", "regions/task_head.html"),
            _ACTS,
            Region("task-life", "regions/task_life.html"),
            Region("task-body", "regions/task_body.html"),
        ),
        _task,
        keyed=True,
    ),
    Page(
        "workers",
        "pages/workers.html",
        (
            *_EVERYWHERE,
            Region("workers-head", "regions/workers_head.html"),
            Region("workers", "regions/workers_page.html", SLOW_S),
        ),
        _workers,
    ),
    Page(
        "queues",
        "pages/queues.html",
        (
            *_EVERYWHERE,
            Region("queues-head", "regions/queues_head.html"),
            Region("queues", "regions/queues_page.html", SLOW_S),
        ),
        _queues,
    ),
    Page(
        "queue",
        "pages/queue.html",
        (
            *_EVERYWHERE,
            Region("queue-head", "regions/queue_head.html"),
            _ACTS,
            Region("queue-figures", "regions/queue_figures.html"),
            Region("queue-main", "regions/queue_main.html", SLOW_S),
            Region("queue-aside", "regions/queue_aside.html", SLOW_S),
        ),
        _queue,
        keyed=True,
    ),
    Page(
        "worker",
        "pages/worker.html",
        (
            *_EVERYWHERE,
            Region("worker-head", "regions/worker_head.html"),
            _ACTS,
            Region("worker-running", "regions/worker_running.html"),
            Region("worker-load", "regions/worker_load.html", SLOW_S),
            Region("worker-main", "regions/worker_main.html", SLOW_S),
            Region("worker-aside", "regions/worker_aside.html", SLOW_S),
        ),
        _worker,
        keyed=True,
    ),
    Page("errors", "pages/errors.html", (*_EVERYWHERE, Region("errors", "regions/errors_page.html", SLOW_S)), _errors),
    Page(
        "error",
        "pages/error_group.html",
        (
            *_EVERYWHERE,
            Region("error-head", "regions/error_head.html"),
            Region("error", "regions/error_group.html", SLOW_S),
        ),
        _error,
        keyed=True,
    ),
    Page(
        "workflows",
        "pages/workflows.html",
        (*_EVERYWHERE, Region("workflows", "regions/workflows_page.html", SLOW_S)),
        _workflows,
    ),
    Page(
        "workflow",
        "pages/workflow.html",
        (*_EVERYWHERE, Region("workflow", "regions/workflow.html", SLOW_S)),
        _workflow,
        keyed=True,
    ),
    Page(
        "quarantine",
        "pages/quarantine.html",
        (*_EVERYWHERE, Region("quarantine", "regions/quarantine.html", SLOW_S)),
        _quarantine,
    ),
    Page("schedules", "pages/later.html", _EVERYWHERE, _schedules),
    Page("autoscale", "pages/later.html", _EVERYWHERE, _autoscale),
    Page(
        "type",
        "pages/type.html",
        (
            *_EVERYWHERE,
            Region("type-head", "regions/type_head.html"),
            _ACTS,
            Region("type", "regions/type.html", SLOW_S),
        ),
        _type,
        keyed=True,
    ),
    Page("types", "pages/types.html", (*_EVERYWHERE, Region("types", "regions/types_page.html", SLOW_S)), _types),
)


def page_named(name: str) -> Page | None:
    """Find a page by its name."""
    return next((page for page in PAGES if page.name == name), None)
