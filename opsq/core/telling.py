"""What events tell of a task: how much of its arguments, and how far it is. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from opsq.settings import Settings
from opsq.wire.payload import Rule, rule_for

PROGRESS: Final = "PROGRESS"
"""The state that tasks usually store with how far they are."""
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MESSAGE_CHARS: Final = 1024


def payload_rule(task: Any, settings: Settings) -> Rule:
    """How much events show of the arguments of ``task``; of ``None``, a task that is only known by name."""
    return rule_for(
        getattr(task, "payload", None) or settings.task_payload,
        settings.task_payload_max_bytes,
        settings.task_payload_redact,
        _parameters(task),
    )


def _parameters(task: Any) -> tuple[str, ...]:
    """The names of a task's positional arguments; none when they cannot be told."""
    try:
        found = inspect.signature(task.run).parameters.values()
    except (TypeError, ValueError, AttributeError):
        return ()
    return tuple(each.name for each in found if each.kind in _POSITIONAL)


def progress_fields(name: str, told: object) -> dict[str, Any]:
    """The fields of ``task-progress``: current, total and message, or Celery users' ``status``, as far as told."""
    fields: dict[str, Any] = {"name": name}
    if not isinstance(told, Mapping):
        return fields
    for key in ("current", "total"):
        value = told.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            fields[key] = value
    message = told.get("message", told.get("status"))
    if message is not None:
        fields["message"] = str(message)[:_MESSAGE_CHARS]
    return fields


def is_done(fields: Mapping[str, Any]) -> bool:
    """Whether progress has come to its end."""
    return "total" in fields and fields.get("current") == fields["total"]
