"""Every URL of the monitor in one table: documentation, permission checks, tests and the application read it."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from opsq.events.diagnosis.explained import Explained
from opsq.web import api
from opsq.web.access.gate import Gate, Need
from opsq.web.act_handlers import key_of
from opsq.web.act_records import Act
from opsq.web.acting import Did
from opsq.web.acts import ACTS
from opsq.web.api_handlers import ApiMessages, ApiQuarantine, ApiQueues, ApiVisitor
from opsq.web.audit import Checked
from opsq.web.audit_handlers import ApiAudit
from opsq.web.bulk import Preview, Progress
from opsq.web.handlers import Handler, Handlers
from opsq.web.look_handlers import ApiLook
from opsq.web.looks import LOOKS
from opsq.web.openapi import PREFIX, Described
from opsq.web.scaling_handlers import ApiDesired, ApiScaling
from opsq.web.security import SAFE_METHODS


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One URL. handler: a method of ``Handlers``, or of a part of it.

    permission: a name of ``access.permissions``, or ``none``. kind: ``page``, ``live``, ``api``, ``probe`` or
    ``asset``; it decides how errors are answered. query: names of ``openapi.QUERIES``. answer: the record that is
    answered, or a media type. act: what it does, on a route that acts. export: it is as long as history.
    """

    method: str
    path: str
    name: str
    handler: str
    permission: str
    kind: str
    summary: str
    query: tuple[str, ...] = ()
    answer: Any = None
    act: Act | None = None
    export: bool = False

    @property
    def need(self) -> Need:
        """What the gate asks of a visitor."""
        return Need(self.permission, self.kind, self.method not in SAFE_METHODS, self.export)

    def bind(self, handlers: Handlers, gate: Gate) -> Handler:
        """Find the method that answers, behind the gate."""
        answer: Handler = attrgetter(self.handler)(handlers)

        async def admitted(request: Request) -> Response:
            try:
                request.state.visitor = await gate.admit(request, self.need)
            except HTTPException as error:
                if self.act is not None and gate.worth_noting(request, error):
                    await handlers.acts.refused(self.act, request, error)
                raise
            return await answer(request)

        return admitted


API: Final = (
    RouteSpec("GET", "/api/v1/overview", "api-overview", "api.overview", "read", "api", "Counts, queues, workers.",
              answer=api.ApiOverview),
    RouteSpec("GET", "/api/v1/tasks", "api-tasks", "api.tasks", "read", "api", "Tasks, newest first.",
              ("q", "before", "limit"), api.ApiTasks),
    RouteSpec("GET", "/api/v1/tasks.csv", "api-tasks-csv", "api.csv", "read", "api", "All tasks of a filter, as CSV.",
              ("q", "id"), "text/csv", export=True),
    RouteSpec("GET", "/api/v1/tasks.jsonl", "api-tasks-jsonl", "api.jsonl", "read", "api",
              "All tasks under a filter, one JSON object a line.", ("q", "id"), "application/jsonl", export=True),
    RouteSpec("GET", "/api/v1/tasks/{id:path}/why", "api-why", "api.why", "read", "api",
              "Why a task does not run: evidence, causes, what would help. Asks the workers.", answer=Explained),
    RouteSpec("GET", "/api/v1/tasks/{id:path}", "api-task", "api.task", "read", "api", "Everything known of one task.",
              answer=api.ApiTask),
    RouteSpec("GET", "/api/v1/workers", "api-workers", "api.workers", "read", "api", "Workers with their figures.",
              answer=api.ApiWorkers),
    RouteSpec("GET", "/api/v1/queues", "api-queues", "api.queues", "read", "api", "Queues with their figures.",
              answer=ApiQueues),
    RouteSpec("GET", "/api/v1/queues/{id:path}/messages", "api-messages", "api.messages", "act", "api",
              "The oldest messages that wait, taken, looked at and put back.", ("limit",), ApiMessages),
    RouteSpec("GET", "/api/v1/quarantine", "api-quarantine", "api.quarantine", "act", "api",
              "Messages that were set aside, with the evidence.", answer=ApiQuarantine),
    RouteSpec("GET", "/api/v1/types", "api-types", "api.types", "read", "api", "Task types over a range of time.",
              ("range",), api.ApiTypes),
    RouteSpec("GET", "/api/v1/autoscale", "api-autoscale", "scaling.groups", "read", "api",
              "Scaling groups with their latest decision.", answer=ApiScaling),
    RouteSpec("GET", "/api/v1/autoscale/metrics", "api-autoscale-metrics", "scaling.metrics", "metrics", "api",
              "Slots that a group should have, for KEDA's metrics-api scaler.", ("group",), ApiDesired),
    RouteSpec("GET", "/api/v1/events", "api-events", "api.events", "read", "live", "Server-sent events: what changed.",
              answer="text/event-stream"),
    RouteSpec("GET", "/api/v1/audit", "api-audit", "audit.api", "audit", "api", "Who did what, newest first.",
              ("before", "limit"), ApiAudit),
    RouteSpec("GET", "/api/v1/audit/check", "api-audit-check", "audit.api_check", "audit", "api",
              "Whether the audit is whole.", answer=Checked),
    RouteSpec("GET", "/api/v1/audit.csv", "api-audit-csv", "audit.csv", "audit", "api", "All of the audit, as CSV.",
              answer="text/csv", export=True),
    RouteSpec("GET", "/api/v1/audit.jsonl", "api-audit-jsonl", "audit.jsonl", "audit", "api",
              "All of the audit, one JSON object a line.", answer="application/jsonl", export=True),
    RouteSpec("POST", "/api/v1/bulk/{verb}/preview", "api-bulk-preview", "bulk.api_preview", "act", "api",
              "What an act on many tasks would do: retry or revoke.", answer=Preview),
    RouteSpec("POST", "/api/v1/bulk/{verb}", "api-bulk", "bulk.api_start", "act", "api",
              "Begin an act on many tasks: retry or revoke.", answer=Progress),
    RouteSpec("GET", "/api/v1/jobs/{id}", "api-job", "bulk.api_job", "act", "api", "How far it is.", answer=Progress),
    RouteSpec("POST", "/api/v1/jobs/{id}/stop", "api-job-stop", "bulk.api_stop", "act", "api",
              "Stop it; what was done stays done.", answer=Progress),
    RouteSpec("GET", "/api/v1/me", "api-me", "api.me", "read", "api", "Who asks, and what they may do.",
              answer=ApiVisitor),
    RouteSpec("GET", "/api/v1/openapi.json", "api-openapi", "docs.openapi", "read", "api", "This description.",
              answer="application/json"),
)  # fmt: skip


def _act_routes() -> tuple[RouteSpec, ...]:
    """The routes of the table of acts: to be asked, to send the form, and for programs."""
    found: list[RouteSpec] = []
    for act in ACTS:
        key, page = key_of(act), f"/act/{act.name}"
        found += (
            RouteSpec("GET", page, f"ask-{act.name}", f"acts.ask.{key}", act.permission, "page",
                      f"Ask before: {act.doc}"),
            RouteSpec("POST", page, f"send-{act.name}", f"acts.send.{key}", act.permission, "page", act.doc, act=act),
            RouteSpec("POST", "/api/v1" + act.path, f"api-{act.name}", f"acts.api.{key}", act.permission, "api",
                      act.doc, answer=Did, act=act),
        )  # fmt: skip
    return tuple(found)


def _look_routes() -> tuple[RouteSpec, ...]:
    """The routes of the table of looks, for pages and for programs."""
    found: list[RouteSpec] = []
    for look in LOOKS:
        key = f"looks.page.{look.verb}", f"looks.api.{look.verb}"
        found += (
            RouteSpec("GET", f"/look/{look.name}", f"look-{look.name}", key[0], look.permission, "page", look.doc),
            RouteSpec("GET", "/api/v1" + look.path, f"api-look-{look.name}", key[1], look.permission, "api", look.doc,
                      answer=ApiLook),
        )  # fmt: skip
    return tuple(found)


ROUTES: Final = (
    RouteSpec("GET", "/", "overview", "overview_page", "read", "page", "Verdict, charts, queues, workers, task types."),
    RouteSpec("GET", "/tasks", "tasks", "tasks_page", "read", "page", "Task list under one filter, newest first."),
    RouteSpec("GET", "/tasks/{id:path}", "task", "task_page", "read", "page", "One task: outcome, tries, lineage."),
    RouteSpec("GET", "/why/{id:path}", "why", "page.why", "read", "page", "Why a task does not run, and what helps."),
    RouteSpec("GET", "/workers", "workers", "workers_page", "read", "page", "Every worker that has been heard."),
    RouteSpec("GET", "/workers/{id:path}", "worker", "page.worker", "read", "page", "One worker: what it runs, load."),
    RouteSpec("GET", "/queues", "queues", "page.queues", "read", "page", "Every queue against its target."),
    RouteSpec("GET", "/queues/{id:path}", "queue", "page.queue", "read", "page", "One queue: what waits, who serves."),
    RouteSpec("GET", "/errors", "errors", "page.errors", "read", "page", "Failures by their cause."),
    RouteSpec("GET", "/errors/{id:path}", "error", "page.error", "read", "page", "One error: trend, where from."),
    RouteSpec("GET", "/workflows", "workflows", "page.workflows", "read", "page", "Workflows that moved of late."),
    RouteSpec("GET", "/workflows/{id:path}", "workflow", "page.workflow", "read", "page", "Graph and time axis."),
    RouteSpec("GET", "/quarantine", "quarantine", "page.quarantine", "act", "page", "Messages that were set aside."),
    RouteSpec("GET", "/schedules", "schedules", "page.schedules", "read", "page", "What runs by the clock."),
    RouteSpec("GET", "/schedules/{id:path}", "schedule", "page.schedule", "read", "page", "One entry of the schedule."),
    RouteSpec("GET", "/autoscale", "autoscale", "page.autoscale", "read", "page", "Decisions about slots."),
    RouteSpec("GET", "/types", "types", "types_page", "read", "page", "Task types over a range of time."),
    RouteSpec("GET", "/types/{id:path}", "type", "page.type", "read", "page", "One task type: how long it runs."),
    RouteSpec("GET", "/live/{page}", "live", "live", "read", "live", "Server-sent events that keep one page current."),
    *API,
    *_act_routes(),
    *_look_routes(),
    RouteSpec(
        "GET",
        "/look/queue-messages",
        "look-queue-messages",
        "looks.messages",
        "act",
        "page",
        "Messages that wait in a queue, with their priorities.",
    ),
    RouteSpec("GET", "/metrics", "metrics", "metrics", "metrics", "probe", "Prometheus and OpenMetrics text."),
    RouteSpec("GET", "/healthz", "healthz", "health.live", "none", "probe", "The monitor's process lives."),
    RouteSpec("GET", "/readyz", "readyz", "health.ready", "none", "probe", "Events arrive in time and are kept."),
    RouteSpec("GET", "/bulk/{verb}", "bulk-ask", "bulk.ask", "act", "page", "What an act on many tasks would do."),
    RouteSpec("POST", "/bulk/{verb}", "bulk-send", "bulk.send", "act", "page", "Begin an act on many tasks."),
    RouteSpec("GET", "/bulk-job", "bulk-job", "bulk.job", "act", "page", "How far an act on many tasks is."),
    RouteSpec("POST", "/bulk-stop", "bulk-stop", "bulk.stop", "act", "page", "Stop an act on many tasks."),
    RouteSpec("GET", "/act-outcome", "act-outcome", "acts.outcome", "read", "page", "How an act ended."),
    RouteSpec("GET", "/audit", "audit", "audit.page", "audit", "page", "Who did what, with which effect."),
    RouteSpec("GET", "/api", "api-docs", "docs.page", "read", "page", "The API, to be read."),
    RouteSpec("GET", "/sign-in", "sign-in", "signing.page", "none", "page", "Ask who you are."),
    RouteSpec("POST", "/sign-in", "signing-in", "signing.enter", "none", "page", "Check a name and a password."),
    RouteSpec("POST", "/sign-out", "sign-out", "signing.leave", "none", "page", "Forget this browser."),
    RouteSpec("GET", "/static/{file:path}", "static", "static", "none", "asset", "Style, script and icon."),
)


def described() -> tuple[Described, ...]:
    """The routes of the API, as its description needs them."""
    return tuple(
        Described(each.method, each.path, each.name, each.permission, each.summary, each.query, each.answer, each.act)
        for each in ROUTES
        if each.path.startswith(PREFIX)
    )
