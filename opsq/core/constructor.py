"""What ``Opsq(…)`` is given: settings by name, under Celery's constructor arguments too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsq.core.task_options import did_you_mean
from opsq.errors import UsageError
from opsq.settings import OPTIONS

#: Arguments of Celery's constructor that have no meaning here, and what to use instead.
NOT_HERE: Mapping[str, str] = {
    "loader": "settings come from config_from_object, a file, the environment and the command line",
    "amqp": "opsq.broker is not replaceable",
    "events": "events are extended through bootsteps",
    "log": "logging is set up by the settings log_format and log_level",
    "control": "remote control is extended through the entry-point group opsq.commands",
    "fixups": "none are needed",
}


def settings_given(
    broker: Any, backend: str | None, include: tuple[str, ...], settings: dict[str, Any]
) -> dict[str, Any]:
    """The settings that the constructor was given. Raises: UsageError for a keyword that is none."""
    given = dict(settings)
    for name, value in (("broker_url", broker), ("result_backend", backend), ("include", include or None)):
        if value is not None:
            given[name] = value
    changes = given.pop("changes", None)
    given.update(changes or {})
    given.pop("autofinalize", None)
    for name in [name for name in given if name not in OPTIONS]:
        if name in NOT_HERE:
            if given.pop(name) is not None:
                raise UsageError(f"Opsq() takes no {name}=: {NOT_HERE[name]}")
        elif not name.isupper():
            raise UsageError(
                f"Opsq() has no keyword {name!r}, and no setting is called so{did_you_mean(name, OPTIONS)}"
            )
    return given
