"""Records of acts: what one is, what is seen of its target, how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opsq.events.records import QueueItem, TaskDetail, WorkerItem
from opsq.events.views import ErrorGroup
from opsq.web.act_fields import Field
from opsq.web.hands import Hands, Scheduled

DONE: Final = "done"
FAILED: Final = "failed"
REFUSED: Final = "refused"
PLACES: Final = {
    "task": "tasks", "worker": "workers", "queue": "queues", "type": "types", "quarantine": "quarantine",
    "error": "errors", "schedule": "schedules",
}  # fmt: skip
"""Kind of target -> where it lives in URLs."""
FINAL: Final = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a target at the moment of acting. workers_up: how many may answer. muted: of an error.
    entry: of the schedule. error: the group, where anybody failed so.
    """

    target: str
    workers_up: int = 0
    task: TaskDetail | None = None
    worker: WorkerItem | None = None
    queue: QueueItem | None = None
    muted: bool | None = None
    entry: Scheduled | None = None
    error: ErrorGroup | None = None

    def before(self) -> dict[str, Any]:
        """The facts that an act is about to change, for the preview and the audit."""
        if self.task is not None:
            item = self.task.item
            return {"state": item.state, "type": item.type, "queue": item.queue, "worker": item.worker}
        if self.worker is not None:
            found = self.worker
            return {
                "status": found.status, "slots": found.slots, "running": found.running, "queues": list(found.queues),
            }  # fmt: skip
        if self.queue is not None:
            queue = self.queue
            return {"waiting": queue.ready, "oldest_s": queue.oldest_age_s, "workers": len(queue.workers)}
        if self.entry is not None:
            return {"type": self.entry.task, "schedule": self.entry.schedule, "paused": self.entry.paused}
        if self.error is not None:
            return {"type": self.error.type, "failed": self.error.failed, "muted": self.muted}
        return {}

    @property
    def unknown_error(self) -> bool:
        """Is it an error that nobody ever failed with? One that is muted can be unmuted though it was forgotten."""
        return self.muted is False and self.error is None


@dataclass(frozen=True, slots=True)
class Done:
    """How an act ended. outcome: ``done`` or ``failed``. message: in words. after: what is known afterwards."""

    outcome: str
    message: str
    after: Mapping[str, Any]


Run = Callable[[Hands, Seen, Mapping[str, Any]], Done]
Check = Callable[[Seen], str]


def _possible(_: Seen) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do. of: kind of its target. verb: last part of its path. label: of its button.

    permission: a name of ``access.permissions``. doc: the effect, in one sentence. why_not: in words, why it is not
    possible now; empty when it is. typed: the name of the target has to be typed, because it cannot be undone.
    """

    of: str
    verb: str
    label: str
    permission: str
    doc: str
    run: Run
    fields: tuple[Field, ...] = ()
    why_not: Check = _possible
    typed: bool = False
    danger: bool = False

    @property
    def name(self) -> str:
        """Its name in the audit and in the pages' URLs, such as ``task-revoke``."""
        return f"{self.of}-{self.verb}"

    @property
    def path(self) -> str:
        """Its path in the API, below ``/api/v1``."""
        return f"/{PLACES[self.of]}/{{id:path}}/{self.verb}"
