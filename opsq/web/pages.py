"""The pages as a table: template, regions that live, and how the view is made. One row, one page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from opsq.web import facts_changes
from opsq.web import page_makers as make
from opsq.web.act_view import ActButton
from opsq.web.acting import bulk_buttons, buttons_for
from opsq.web.changes import Change
from opsq.web.deps import Deps
from opsq.web.looking import look_buttons
from opsq.web.page_why import line_of, why_page
from opsq.web.view_common import Ask
from opsq.web.view_schedules import ADD
from opsq.web.view_shell import Shell, shell
from opsq.web.view_why import WhyLine
from opsq.web.view_worker_control import INLINE

T = TypeVar("T")

FAST_S: Final = 0.0
SLOW_S: Final = 1.0
TABLE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a page that is replaced when it changes. id: of its element. every_s: not more often than this."""

    id: str
    template: str
    every_s: float = FAST_S


@dataclass(frozen=True, slots=True)
class Page:
    """One page. make: builds title and view from what was asked. has_rows: it holds the live task list.

    keyed: it is about one thing, whose id or name stands in the URL. timeline: it has charts over a range of time.
    """

    name: str
    template: str
    regions: tuple[Region, ...]
    make: Callable[[Deps, Ask, float], tuple[str, Any]]
    has_rows: bool = False
    keyed: bool = False
    timeline: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A page ready to be written."""

    page: Page
    shell: Shell
    view: Any
    now: float
    acts: tuple[ActButton, ...] = ()
    changes: tuple[Change, ...] = ()
    why: WhyLine | None = None

    def context(self) -> dict[str, Any]:
        """Give the templates what they read."""
        return {
            "shell": self.shell, "view": self.view, "now": self.now, "acts": self.acts,
            "changes": self.changes, "timeline": self.page.timeline, "why": self.why,
        }  # fmt: skip


def make_page(page: Page, deps: Deps, ask: Ask) -> Made:
    """Read the monitor and build a page. Blocks on the store. Raises HTTPException 404 for a task unknown here."""
    now = deps.clock.now()
    title, view = page.make(deps, ask, now)
    changed = facts_changes.of_range(deps, ask.visitor, ask.range) if page.timeline else ()
    live = "" if ask.before is not None else deps.places.to(f"/live/{page.name}") + ask.query(**_id_param(ask))
    around = shell(title, deps.query.overview(), ask, deps.here, deps.places, live=live, now=now)
    of = "task" if page.name == "why" else page.name
    acts = buttons_for(deps, of, ask.id, ask.visitor, besides=INLINE | {ADD}) if page.keyed else ()
    if page.name in ("worker", "queue"):
        acts = (*look_buttons(deps, page.name, ask.id, ask.visitor), *acts)
    if page.name == "tasks":
        acts = bulk_buttons(deps, ask.q, ask.visitor)
    return Made(page, around, view, now, acts, changed, line_of(deps, ask, now))


def _id_param(ask: Ask) -> dict[str, str]:
    return {"id": ask.id} if ask.id else {}


_EVERYWHERE: Final = (
    Region("banner-monitor", "regions/banner.html"),
    Region("status", "regions/strip.html"),
    Region("foot", "regions/foot.html", SLOW_S),
)

_WHY: Final = Region("why-line", "regions/why_line.html", SLOW_S)
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
            Region("chart-data", "regions/chart_data.html", TABLE_S),
            Region("aside", "regions/aside.html"),
            Region("queues", "regions/queues.html", SLOW_S),
            Region("workers", "regions/workers.html", SLOW_S),
            Region("types", "regions/types.html", SLOW_S),
        ),
        make.overview,
        timeline=True,
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
        make.tasks,
        has_rows=True,
        timeline=True,
    ),
    Page(
        "task",
        "pages/task.html",
        (
            *_EVERYWHERE,
            Region("task-head", "regions/task_head.html"),
            _WHY,
            _ACTS,
            Region("task-life", "regions/task_life.html"),
            Region("task-body", "regions/task_body.html"),
        ),
        make.task,
        keyed=True,
    ),
    Page(
        "why",
        "pages/why.html",
        (*_EVERYWHERE, Region("task-head", "regions/why_head.html"), _ACTS, Region("why", "regions/why.html", SLOW_S)),
        why_page,
        keyed=True,
        timeline=True,
    ),
    Page(
        "workers",
        "pages/workers.html",
        (
            *_EVERYWHERE,
            Region("workers-head", "regions/workers_head.html"),
            Region("workers", "regions/workers_page.html", SLOW_S),
        ),
        make.workers,
    ),
    Page(
        "queues",
        "pages/queues.html",
        (
            *_EVERYWHERE,
            Region("queues-head", "regions/queues_head.html"),
            Region("queues", "regions/queues_page.html", SLOW_S),
        ),
        make.queues,
    ),
    Page(
        "queue",
        "pages/queue.html",
        (
            *_EVERYWHERE,
            Region("queue-head", "regions/queue_head.html"),
            _WHY,
            _ACTS,
            Region("queue-figures", "regions/queue_figures.html"),
            Region("queue-main", "regions/queue_main.html", SLOW_S),
            Region("queue-aside", "regions/queue_aside.html", SLOW_S),
        ),
        make.queue,
        keyed=True,
        timeline=True,
    ),
    Page(
        "worker",
        "pages/worker.html",
        (
            *_EVERYWHERE,
            Region("worker-head", "regions/worker_head.html"),
            _ACTS,
            Region("worker-figures", "regions/worker_figures.html"),
            Region("worker-running", "regions/worker_running.html"),
            Region("worker-slots", "regions/worker_slots.html", SLOW_S),
            Region("worker-load", "regions/worker_load.html", SLOW_S),
            Region("worker-main", "regions/worker_main.html", SLOW_S),
            Region("worker-control", "regions/worker_control.html", SLOW_S),
            Region("worker-latest", "regions/worker_latest.html", SLOW_S),
            Region("worker-aside", "regions/worker_aside.html", SLOW_S),
        ),
        make.worker,
        keyed=True,
        timeline=True,
    ),
    Page(
        "errors",
        "pages/errors.html",
        (
            *_EVERYWHERE,
            Region("errors-head", "regions/errors_head.html", SLOW_S),
            Region("errors", "regions/errors_page.html", SLOW_S),
        ),
        make.errors,
    ),
    Page(
        "error",
        "pages/error_group.html",
        (
            *_EVERYWHERE,
            Region("error-head", "regions/error_head.html"),
            _ACTS,
            Region("error", "regions/error_group.html", SLOW_S),
        ),
        make.error,
        keyed=True,
        timeline=True,
    ),
    Page(
        "workflows",
        "pages/workflows.html",
        (*_EVERYWHERE, Region("workflows", "regions/workflows_page.html", SLOW_S)),
        make.workflows,
    ),
    Page(
        "workflow",
        "pages/workflow.html",
        (*_EVERYWHERE, Region("workflow", "regions/workflow.html", SLOW_S)),
        make.workflow,
        keyed=True,
    ),
    Page(
        "quarantine",
        "pages/quarantine.html",
        (*_EVERYWHERE, Region("quarantine", "regions/quarantine.html", SLOW_S)),
        make.quarantine,
    ),
    Page(
        "schedules",
        "pages/schedules.html",
        (
            *_EVERYWHERE,
            Region("schedules-head", "regions/schedules_head.html", SLOW_S),
            Region("schedules", "regions/schedules.html", SLOW_S),
        ),
        make.schedules,
    ),
    Page(
        "schedule",
        "pages/schedule.html",
        (
            *_EVERYWHERE,
            Region("schedule-head", "regions/schedule_head.html", SLOW_S),
            _ACTS,
            Region("schedule", "regions/schedule.html", SLOW_S),
        ),
        make.schedule,
        keyed=True,
    ),
    Page(
        "autoscale",
        "pages/autoscale.html",
        (
            *_EVERYWHERE,
            Region("autoscale-head", "regions/autoscale_head.html", SLOW_S),
            Region("autoscale", "regions/autoscale.html", SLOW_S),
            Region("decisions", "regions/decisions.html", SLOW_S),
        ),
        make.autoscale,
        timeline=True,
    ),
    Page(
        "type",
        "pages/type.html",
        (
            *_EVERYWHERE,
            Region("type-head", "regions/type_head.html"),
            _ACTS,
            Region("type", "regions/type.html", SLOW_S),
        ),
        make.type,
        keyed=True,
        timeline=True,
    ),
    Page("types", "pages/types.html", (*_EVERYWHERE, Region("types", "regions/types_page.html", SLOW_S)), make.types),
)


def page_named(name: str) -> Page | None:
    """Find a page by its name."""
    return next((page for page in PAGES if page.name == name), None)
