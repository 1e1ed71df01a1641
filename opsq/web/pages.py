"""The pages as a table: template, regions that live, and how the view is made. One row, one page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from starlette.exceptions import HTTPException

from opsq.web import facts
from opsq.web.deps import Deps
from opsq.web.terms import parse
from opsq.web.view_common import Ask
from opsq.web.view_overview import overview_view
from opsq.web.view_shell import Shell, shell
from opsq.web.view_task import task_view
from opsq.web.view_tasks import tasks_view
from opsq.web.view_types import types_view
from opsq.web.view_workers import workers_view

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
    """One page. make: builds title and view from what was asked. has_rows: it holds the live task list."""

    name: str
    template: str
    regions: tuple[Region, ...]
    make: Callable[[Deps, Ask, float], tuple[str, Any]]
    has_rows: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A page ready to be written."""

    page: Page
    shell: Shell
    view: Any
    now: float

    def context(self) -> dict[str, Any]:
        """Give the templates what they read."""
        return {"shell": self.shell, "view": self.view, "now": self.now}


def make_page(page: Page, deps: Deps, ask: Ask) -> Made:
    """Read the monitor and build a page. Blocks on the store. Raises HTTPException 404 for a task unknown here."""
    now = deps.clock.now()
    title, view = page.make(deps, ask, now)
    live = "" if ask.before is not None else deps.places.to(f"/live/{page.name}") + ask.query(**_id_param(ask))
    return Made(page, shell(title, deps.query.overview(), ask, deps.here, deps.places, live=live, now=now), view, now)


def _id_param(ask: Ask) -> dict[str, str]:
    return {"id": ask.id} if ask.id else {}


def _overview(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    shown = replace(ask, range=facts.range_for(deps, ask))
    found = facts.overview_facts(deps, ask, shown.range)
    return "Overview", overview_view(found, shown, deps.places, deps.here.broker, now)


def _tasks(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    asked = parse(ask.q, now)
    page, facets = facts.task_page(deps, asked, ask)
    return "Tasks", tasks_view(page, facets, asked, ask, deps.places, deps.here.broker, now)


def _task(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    found = facts.task(deps, ask.id)
    if found is None:
        raise HTTPException(404, "No such task is known here")
    view = task_view(found, facts.usual(deps, found.item.type), deps.places, now)
    return f"{view.name} {view.short}, {view.face.word}", view


def _workers(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    return "Workers", workers_view(facts.workers(deps), deps.places, deps.here.broker, now)


def _types(deps: Deps, ask: Ask, now: float) -> tuple[str, Any]:
    return "Task types", types_view(facts.task_types(deps, ask.range), ask, deps.places, deps.here.broker)


_EVERYWHERE: Final = (
    Region("banner-monitor", "regions/banner.html"),
    Region("status", "regions/strip.html"),
    Region("foot", "regions/foot.html", SLOW_S),
)

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
            Region("task-life", "regions/task_life.html"),
            Region("task-body", "regions/task_body.html"),
        ),
        _task,
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
    Page("types", "pages/types.html", (*_EVERYWHERE, Region("types", "regions/types_page.html", SLOW_S)), _types),
)


def page_named(name: str) -> Page | None:
    """Find a page by its name."""
    return next((page for page in PAGES if page.name == name), None)
