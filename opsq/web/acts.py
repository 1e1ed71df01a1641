"""Everything that can be done on the pages, in one table: routes, forms, API, permissions, audit and tests read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opsq.web.act_fields import Field
from opsq.web.act_records import Act
from opsq.web.act_runs import (
    command,
    drop,
    known_entry,
    may_mute,
    may_pause_entry,
    may_remove_entry,
    may_resume_entry,
    may_retry,
    may_revoke,
    may_send_again,
    may_terminate,
    may_unmute,
    move,
    noted,
    purge,
    release,
    resend,
    retry,
    revoke,
    schedule,
    terminate,
    up,
    up_and_opsq,
)  # fmt: skip

_FOR: Final = Field("for_s", "time", "For how long", "Then what was before counts again; empty for good.", False,
                    least=1, most=31 * 86_400)  # fmt: skip
_N: Final = Field("n", "integer", "Slots", "How many.", default=1, least=1, most=1_000)
_RATE: Final = Field("rate_limit", "text", "Rate", "Such as 10/s, 100/m or 5/h; 0 for no limit.")
_SOFT: Final = Field("soft", "number", "Soft limit, s", "SoftTimeLimitExceeded is raised after so many seconds.", False,
                     least=0.001, most=31 * 86_400)  # fmt: skip
_HARD: Final = Field("hard", "number", "Hard limit, s", "It is killed after so many seconds.", False,
                     least=0.001, most=31 * 86_400)  # fmt: skip
_TASK: Final = Field("task_name", "text", "Task type", "By its name.")
_QUEUE: Final = Field("queue", "text", "Queue", "By its name.")
_WHEN: Final = Field("schedule", "text", "When", "30s, */5 8-18 * * mon-fri, @daily, sunrise 52.5 13.4.")
_CALLED: Final = Field("task", "text", "Task", "By its name.")
_WHEN_OR_NOT: Final = Field("schedule", "text", _WHEN.label, _WHEN.doc, False)
_CALLED_OR_NOT: Final = Field("task", "text", _CALLED.label, _CALLED.doc, False)
_OF_ENTRY: Final = (
    Field("args", "list", "Positional arguments", "A JSON list.", False, private=True),
    Field("kwargs", "object", "Keyword arguments", "A JSON object.", False, private=True),
    Field("timezone", "text", "Time zone", "Such as Europe/Berlin.", False),
    Field("jitter", "time", "Jitter", "Each tick is sent up to so much later.", False, most=86_400),
    Field("deadline", "time", "Deadline", "A tick later than this is not sent.", False, most=31 * 86_400),
)
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

ACTS: Final[tuple[Act, ...]] = (
    Act("task", "retry", "Retry", "act", "The same call is sent again, as a new task; what was to follow it is not.",
        retry, why_not=may_retry),
    Act("task", "resend", "Edit and resend", "act", "The call is sent as a new task, with the arguments you write.",
        resend, (
            Field("args", "list", "Positional arguments", "A JSON list.", False, private=True),
            Field("kwargs", "object", "Keyword arguments", "A JSON object.", False, private=True),
            Field("queue", "text", "Queue", "Where it went before by default.", False),
            Field("countdown_s", "time", "Not before", "So long from now, such as 10m.", False, most=365 * 86_400),
        ), why_not=may_send_again),
    Act("task", "revoke", "Revoke", "act", "It will not run: workers drop it when it comes.", revoke,
        why_not=may_revoke),
    Act("task", "terminate", "Terminate", "act", "The running task is stopped in the middle of its work.",
        terminate, (Field("signal", "choice", "Signal", "TERM asks, KILL does not.", default="SIGTERM",
                           choices=("SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGUSR1")),),
        why_not=may_terminate, danger=True),
    Act("worker", "grow", "Grow the pool", "tune", "The pool gets more slots.", command("pool_grow"), (_N, _FOR),
        why_not=up),
    Act("worker", "shrink", "Shrink the pool", "tune", "The pool gives slots back as they become free.",
        command("pool_shrink"), (_N, _FOR), why_not=up),
    Act("worker", "autoscale", "Set the autoscale range", "tune", "The pool is kept between these bounds.",
        command("autoscale"), (
            Field("max", "integer", "Most slots", least=1, most=100_000),
            Field("min", "integer", "Fewest slots", default=0, least=0, most=100_000),
        ), why_not=up),
    Act("worker", "add-queue", "Take from a queue", "tune", "It takes tasks from one more queue.",
        command("add_consumer"), (_QUEUE,), why_not=up),
    Act("worker", "cancel-queue", "Leave a queue", "tune", "It takes nothing more from it; what it took is worked off.",
        command("cancel_consumer"), (_QUEUE,), why_not=up),
    Act("worker", "rate-limit", "Limit the rate of a type", "tune", "This worker starts tasks of the type no faster.",
        command("rate_limit"), (_TASK, _RATE, _FOR), why_not=up),
    Act("worker", "time-limit", "Limit the run time of a type", "tune", "It lets tasks of the type run no longer.",
        command("time_limit"), (_TASK, _SOFT, _HARD, _FOR), why_not=up),
    Act("worker", "log-level", "Set the log level", "tune", "It logs more, or less, at once.", command("log_level"), (
            Field("level", "choice", "Level", default="INFO", choices=_LEVELS),
            Field("logger", "text", "Logger", "All of them by default.", False), _FOR,
        ), why_not=up_and_opsq),
    Act("worker", "restart-pool", "Restart the pool", "manage", "Its processes are replaced, each after its task.",
        command("pool_restart"), why_not=up),
    Act("worker", "shutdown", "Shut down", "manage", "It ends what it runs, takes nothing more and stops.",
        command("shutdown", silent=True), why_not=up, typed=True, danger=True),
    Act("queue", "pause", "Pause", "act", "Nobody takes from it, nor workers that start later; what was taken is done.",
        command("pause", "queue", standing=True), (_FOR,)),
    Act("queue", "resume", "Resume", "act", "Workers take from it again.", command("resume", "queue", standing=True)),
    Act("queue", "purge", "Purge", "manage", "Everything that waits in it is deleted. What runs goes on.", purge,
        typed=True, danger=True),
    Act("queue", "move", "Move messages", "manage", "What waits is put on another queue, oldest first.", move, (
            Field("to", "text", "To queue", "By its name; it is made where it does not exist."),
            Field("most", "integer", "At most", "So many messages.", default=1_000, least=1, most=10_000),
        )),
    Act("type", "pause", "Pause", "act", "Workers begin no more tasks of this type; they keep what they were given.",
        command("pause", "task", standing=True), (_FOR,)),
    Act("type", "resume", "Resume", "act", "Workers begin tasks of this type again.",
        command("resume", "task", standing=True)),
    Act("type", "rate-limit", "Limit the rate", "tune", "Each worker starts tasks of this type no faster.",
        command("rate_limit", "task_name"), (_RATE, _FOR)),
    Act("type", "time-limit", "Limit the run time", "tune", "Tasks of this type run no longer.",
        command("time_limit", "task_name"), (_SOFT, _HARD, _FOR)),
    Act("schedule", "run", "Run now", "act", "One call is sent at once, out of turn.", schedule("schedule_run"),
        why_not=known_entry),
    Act("schedule", "pause", "Pause", "act", "Nothing of it is sent until it is resumed.",
        schedule("schedule_pause"), why_not=may_pause_entry),
    Act("schedule", "resume", "Resume", "act", "It is sent again when it is due; ticks of meanwhile are not.",
        schedule("schedule_resume"), why_not=may_resume_entry),
    Act("schedule", "edit", "Edit", "tune", "What is given is changed, on every beat; the rest stays.",
        schedule("schedule_edit"), (_WHEN_OR_NOT, _CALLED_OR_NOT, *_OF_ENTRY), why_not=known_entry),
    Act("schedule", "add", "Add an entry", "tune", "The leading beat sends it from now on, and keeps it.",
        schedule("schedule_add"), (_WHEN, _CALLED, *_OF_ENTRY)),
    Act("schedule", "remove", "Remove", "tune", "It is not sent any more; one of the code is again what the code says.",
        schedule("schedule_remove"), why_not=may_remove_entry, typed=True, danger=True),
    Act("error", "mute", "Mute", "act", "It is told apart from what is new, and stays off the overview.",
        noted("muted"), (_FOR,), why_not=may_mute),
    Act("error", "unmute", "Unmute", "act", "It counts as the others again.", noted("not muted any more"),
        why_not=may_unmute),
    Act("quarantine", "release", "Release", "act", "It goes back on its queue, its deaths forgotten.", release),
    Act("quarantine", "drop", "Drop", "manage", "The message is deleted for good.", drop, typed=True, danger=True),
)  # fmt: skip
BY_NAME: Final[Mapping[str, Act]] = {act.name: act for act in ACTS}
