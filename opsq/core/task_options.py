"""The table of task options: what ``@app.task(…)`` accepts, and which setting each one defaults to.

Three things are read from it: the check of a declaration, the defaults that a task takes from the
settings when its app is finalised, and the call options that a task adds to each of its messages.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opsq.errors import UsageError


@dataclass(frozen=True, slots=True)
class TaskOption:
    """One option of a task.

    setting: the setting it takes its value from when not declared; empty for none.
    call: true when the value goes into every message as a call option of the same name.
    """

    doc: str
    setting: str = ""
    call: bool = False


TASK_OPTIONS: Final[Mapping[str, TaskOption]] = {
    "name": TaskOption("Name on the wire; default module.function."),
    "bind": TaskOption("Pass the task itself as first argument."),
    "base": TaskOption("Class to build the task from, a subclass of Task."),
    "typing": TaskOption("Check arguments against the signature when publishing."),
    "lazy": TaskOption("Accepted for Celery's sake; tasks are always built at once."),
    "shared": TaskOption("Accepted for Celery's sake; use shared_task to share."),
    "ignore_result": TaskOption("Do not store results.", "task_ignore_result"),
    "trail": TaskOption("Record the calls a task makes as children of its result."),
    "send_events": TaskOption("Announce what happens to this task."),
    "payload": TaskOption("What events show of the arguments: full, repr or none."),
    "store_errors_even_if_ignored": TaskOption(
        "Store failures although results are ignored.", "task_store_errors_even_if_ignored"
    ),
    "store_eager_result": TaskOption("Store results of eager runs.", "task_store_eager_result"),
    "track_started": TaskOption("Store STARTED when an attempt begins.", "task_track_started"),
    "resultrepr_maxsize": TaskOption("Longest result shown in events, in characters."),
    "throws": TaskOption("Errors that are expected: logged without traceback."),
    "acks_late": TaskOption("Acknowledge after the run: at least once.", "task_acks_late"),
    "acks_on_failure": TaskOption("Acknowledge a late-ack task that failed.", "task_acks_on_failure"),
    "acks_on_timeout": TaskOption("Acknowledge a late-ack task that timed out.", "task_acks_on_timeout"),
    "acks_on_failure_or_timeout": TaskOption(
        "Both of the above where they are not set.", "task_acks_on_failure_or_timeout"
    ),
    "reject_on_worker_lost": TaskOption("Put the message back when the process dies.", "task_reject_on_worker_lost"),
    "retry_on_worker_lost": TaskOption("Retry, counting, when the process dies.", "task_retry_on_worker_lost"),
    "max_retries": TaskOption("Retries before giving up; none means no end."),
    "default_retry_delay": TaskOption("Seconds before a retry."),
    "autoretry_for": TaskOption("Errors that are retried by themselves."),
    "dont_autoretry_for": TaskOption("Errors that are not, although autoretry_for covers them."),
    "retry_kwargs": TaskOption("Arguments of automatic retries."),
    "retry_backoff": TaskOption("Double the delay at each automatic retry; a number is the first, in seconds."),
    "retry_backoff_max": TaskOption("Longest delay of a back-off, in seconds."),
    "retry_jitter": TaskOption("Draw the delay at random below the back-off."),
    "rate_limit": TaskOption('Runs per worker, as "10/s", "10/m" or "10/h".', "task_default_rate_limit"),
    "pydantic": TaskOption("Validate arguments and results against the annotations."),
    "pydantic_strict": TaskOption("Pydantic's strict mode."),
    "pydantic_context": TaskOption("Context for pydantic's validators."),
    "pydantic_dump_kwargs": TaskOption("Arguments of model_dump for results."),
    "backend": TaskOption("A result store of its own."),
    "queue": TaskOption("Queue.", call=True),
    "exchange": TaskOption("Exchange.", call=True),
    "routing_key": TaskOption("Routing key.", call=True),
    "priority": TaskOption("0 to 9.", call=True),
    "serializer": TaskOption("Serializer of the body.", "task_serializer", call=True),
    "compression": TaskOption("Compression of the body.", "task_compression", call=True),
    "expires": TaskOption("Seconds, or a moment, after which it is not run.", call=True),
    "time_limit": TaskOption("Hard limit in seconds.", "task_time_limit"),
    "soft_time_limit": TaskOption("Soft limit in seconds.", "task_soft_time_limit"),
    "delivery_mode": TaskOption("1 transient, 2 persistent.", call=True),
    "immediate": TaskOption("AMQP flag.", call=True),
    "mandatory": TaskOption("AMQP flag.", call=True),
    "Strategy": TaskOption("Accepted for Celery's sake; not used."),
    "Request": TaskOption("Accepted for Celery's sake; not used."),
    "request_stack": TaskOption("Accepted for Celery's sake; not used."),
}

CALL_OPTIONS_OF_TASK: Final = tuple(name for name, option in TASK_OPTIONS.items() if option.call)
FROM_SETTINGS: Final = tuple((name, option.setting) for name, option in TASK_OPTIONS.items() if option.setting)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint to append to an error: the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_task_options(where: str, options: Mapping[str, Any], base: type) -> None:
    """Refuse an option that neither the table nor an attribute of ``base`` knows.

    Raises: UsageError naming the option and the nearest known one.
    """
    for name in options:
        if name not in TASK_OPTIONS and not hasattr(base, name):
            hint = did_you_mean(name, TASK_OPTIONS)
            raise UsageError(
                f"{where} has no option {name!r}{hint or '; to keep a value of your own, declare it on a base= class'}"
            )
    backoff = options.get("retry_backoff")
    if backoff is not None and not isinstance(backoff, (bool, int, float)):
        raise UsageError(f"{where}: retry_backoff is true, false or seconds, got {backoff!r}")
    priority = options.get("priority")
    if priority is not None and (not isinstance(priority, int) or isinstance(priority, bool)):
        raise UsageError(f"{where}: priority is a whole number, got {priority!r}")
