"""Every URL of the monitor in one table: documentation, permission checks, tests and the application read it."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from opsq.web.access.gate import Gate, Need
from opsq.web.handlers import Handler, Handlers
from opsq.web.security import SAFE_METHODS


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One URL. handler: a method of ``Handlers``, or of a part of it.

    permission: a name of ``access.permissions``, or ``none``. kind: ``page``, ``live``, ``api``, ``probe`` or
    ``asset``; it decides how errors are answered.
    """

    method: str
    path: str
    name: str
    handler: str
    permission: str
    kind: str
    summary: str

    @property
    def need(self) -> Need:
        """What the gate asks of a visitor."""
        return Need(self.permission, self.kind, self.method not in SAFE_METHODS)

    def bind(self, handlers: Handlers, gate: Gate) -> Handler:
        """Find the method that answers, behind the gate."""
        answer: Handler = attrgetter(self.handler)(handlers)

        async def admitted(request: Request) -> Response:
            request.state.visitor = await gate.admit(request, self.need)
            return await answer(request)

        return admitted


ROUTES: Final = (
    RouteSpec("GET", "/", "overview", "overview_page", "read", "page", "Verdict, charts, queues, workers, task types."),
    RouteSpec("GET", "/tasks", "tasks", "tasks_page", "read", "page", "Task list under one filter, newest first."),
    RouteSpec("GET", "/tasks/{id:path}", "task", "task_page", "read", "page", "One task: outcome, tries, lineage."),
    RouteSpec("GET", "/workers", "workers", "workers_page", "read", "page", "Every worker that has been heard."),
    RouteSpec("GET", "/types", "types", "types_page", "read", "page", "Task types over a range of time."),
    RouteSpec("GET", "/live/{page}", "live", "live", "read", "live", "Server-sent events that keep one page current."),
    RouteSpec("GET", "/api/overview", "api-overview", "api_overview", "read", "api", "Counts, queues, workers."),
    RouteSpec("GET", "/api/tasks", "api-tasks", "api_tasks", "read", "api", "Tasks under a filter (q, before)."),
    RouteSpec("GET", "/api/tasks/{id:path}", "api-task", "api_task", "read", "api", "Everything known of one task."),
    RouteSpec("GET", "/api/workers", "api-workers", "api_workers", "read", "api", "Workers with their figures."),
    RouteSpec("GET", "/api/types", "api-types", "api_types", "read", "api", "Task types over a range of time."),
    RouteSpec("GET", "/metrics", "metrics", "metrics", "metrics", "probe", "Prometheus and OpenMetrics text."),
    RouteSpec("GET", "/healthz", "healthz", "healthz", "none", "probe", "The monitor's process lives."),
    RouteSpec("GET", "/readyz", "readyz", "readyz", "none", "probe", "Events arrive and history is kept."),
    RouteSpec("GET", "/sign-in", "sign-in", "signing.page", "none", "page", "Ask who you are."),
    RouteSpec("POST", "/sign-in", "signing-in", "signing.enter", "none", "page", "Check a name and a password."),
    RouteSpec("POST", "/sign-out", "sign-out", "signing.leave", "none", "page", "Forget this browser."),
    RouteSpec("GET", "/static/{file:path}", "static", "static", "none", "asset", "Style, script and icon."),
)
