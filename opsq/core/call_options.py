"""The table of call options: what ``apply_async`` takes, and the check that catches a misspelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opsq.core.task_options import did_you_mean
from opsq.errors import UsageError

#: AMQP properties and publish flags that go into the message's properties as they are.
AMQP_PROPERTIES: Final = frozenset(
    {"mandatory", "immediate", "message_id", "timestamp", "app_id", "user_id", "type", "cluster_id", "expiration"}
)

CALL_OPTIONS: Final[Mapping[str, str]] = {
    "task_id": "Id of the call, any text of at most 155 characters; default a new UUID.",
    "countdown": "Seconds from now before which it must not run.",
    "eta": "Moment before which it must not run: datetime or ISO-8601 text.",
    "expires": "Seconds from now, or a moment, after which it is not run any more.",
    "retries": "Retries so far.",
    "queue": "Queue, by name or as a queue object.",
    "exchange": "Exchange; with routing_key it is used as given.",
    "routing_key": "Routing key.",
    "exchange_type": "Type of the exchange.",
    "priority": "0 to 9 (255 on RabbitMQ).",
    "serializer": "Serializer of the body.",
    "compression": "Compression of the body.",
    "delivery_mode": "1 transient, 2 persistent, or these words.",
    "headers": "Headers of your own.",
    "link": "Call, or list of calls, made when this one succeeds.",
    "link_error": "Call, or list of calls, made when this one fails.",
    "shadow": "Name shown in logs and events instead of the task's.",
    "ignore_result": "Do not store the result of this call.",
    "time_limit": "Hard limit in seconds.",
    "soft_time_limit": "Soft limit in seconds.",
    "group_id": "Id of the group the call belongs to.",
    "group_index": "Place in that group.",
    "chord": "Body of the chord the call is a header member of.",
    "chain": "Rest of the chain, next call last.",
    "root_id": "Id of the first call of the workflow.",
    "parent_id": "Id of the call that made this one.",
    "reply_to": "Address for results; default this thread's.",
    "retry": "Publish again when the connection fails.",
    "retry_policy": "How: max_retries, interval_start, interval_step, interval_max.",
    "timeout": "Longest time to publish, in seconds.",
    "confirm_timeout": "Longest wait for the broker's confirmation, in seconds.",
    "connection": "Accepted for Celery's sake; the app's publisher is used.",
    "producer": "Accepted for Celery's sake; the app's publisher is used.",
    "publisher": "A Publisher to use instead of the app's.",
    "router": "A Router to ask instead of the app's.",
    "add_to_parent": "Record the call as a child of the running task; default true.",
    "argsrepr": "Text shown for the arguments.",
    "kwargsrepr": "Text shown for the keyword arguments.",
    "stamped_headers": "Names of stamps.",
    "stamps": "Stamps by name.",
    "replaced_task_nesting": "How often the task was replaced.",
    "event_dispatcher": "Accepted for Celery's sake; not used.",
    "declare": "Accepted for Celery's sake; the queue is declared by itself.",
    "correlation_id": "AMQP correlation id; default the call's id.",
    "task_type": "Accepted for Celery's sake; not used.",
}
_KNOWN: Final = frozenset(CALL_OPTIONS) | AMQP_PROPERTIES
TASK_ID_MAX_CHARS: Final = 155


def check_call_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that is not in the table; stamps named by ``stamped_headers`` are options too.

    Raises: UsageError naming the option and the nearest known one.
    """
    if options.keys() <= _KNOWN:
        return
    stamps = frozenset(options.get("stamped_headers") or ())
    for option in options:
        if option not in _KNOWN and option not in stamps:
            raise UsageError(
                f"a call of {name!r} has no option {option!r}{did_you_mean(option, _KNOWN)}; "
                "arguments of the task go into args and kwargs, your own headers into headers"
            )


def check_task_id(task_id: object) -> str:
    """Refuse an id that a store or a peer could not keep. Raises: UsageError."""
    if not isinstance(task_id, str) or not task_id or len(task_id) > TASK_ID_MAX_CHARS:
        raise UsageError(f"task_id is text of 1 to {TASK_ID_MAX_CHARS} characters, got {task_id!r:.80}")
    return task_id
