"""One line of a schedule: what to call, when, and what to do about ticks that were missed. Pure.

Source: Celery's ``beat_schedule`` (``task``, ``schedule``, ``args``, ``kwargs``, ``options``, ``relative``); the other
keys are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from opsq.core.call_options import check_call_options
from opsq.core.schedules.spec import as_schedule, spec_of
from opsq.core.task_options import did_you_mean
from opsq.errors import ConfigError, Fault, OpsqError, UsageError

CATCH_UP: Final = ("once", "all", "none")
KEYS: Final[Mapping[str, str]] = {
    "task": "Name of the task.",
    "schedule": "Seconds, a timedelta, a crontab, solar, or text.",
    "args": "Positional arguments.",
    "kwargs": "Keyword arguments.",
    "options": "Options of the call, as of `apply_async`.",
    "relative": "Round an interval down to the day, hour or minute.",
    "timezone": "Zone of this entry, instead of the app's.",
    "jitter": "Seconds; each tick is sent up to so much later, always the same for the same tick.",
    "catch_up": "What is sent of missed ticks: `once` (the last), `all`, or `none`.",
    "deadline": "Seconds; a tick later than this is not sent.",
    "enabled": "False pauses it.",
    "brings": "How many tasks a tick brings, or a table of queue to number: for autoscalers, which else learn it.",
}
#: Options of a call that a schedule gives itself.
_OURS: Final = frozenset({"task_id", "publisher"})


class BeatLazyFunc:
    """An argument that is worked out anew for each tick: ``BeatLazyFunc(date.today)``."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._func, self._args, self._kwargs = func, args, kwargs

    def __call__(self) -> Any:
        """The value now."""
        return self._func(*self._args, **self._kwargs)

    delay = __call__


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. source: ``code``, or ``runtime`` for what was added or changed by remote control.

    jitter_s, deadline_s: seconds. brings: tasks of a tick, in its own queue or by queue; None when nobody said.
    Thread: any.
    """

    name: str
    task: str
    schedule: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    catch_up: str = "once"
    jitter_s: float = 0.0
    deadline_s: float | None = None
    enabled: bool = True
    source: str = "code"
    brings: int | Mapping[str, int] | None = None

    def spec(self) -> dict[str, Any] | None:
        """When it happens, as data; changes when somebody edits it."""
        return spec_of(self.schedule)


def entry_from(name: str, given: Any, app: Any, source: str = "code") -> Entry:
    """Read one entry of ``beat_schedule``. Raises: UsageError saying what is wrong with it."""
    if isinstance(given, Entry):
        return replace(given, schedule=_settled(given.schedule, app, None))
    if not isinstance(given, Mapping):
        raise UsageError(f"expected a table with task and schedule, got {given!r:.100}")
    for key in given:
        if key not in KEYS:
            raise UsageError(f"there is no {key!r}{did_you_mean(str(key), KEYS)}")
    task, when = given.get("task"), given.get("schedule")
    if not isinstance(task, str) or not task:
        raise UsageError(f"task: expected the name of a task, got {task!r:.100}")
    if when is None:
        raise UsageError("schedule: say when")
    catch_up = given.get("catch_up") or "once"
    if catch_up not in CATCH_UP:
        raise UsageError(f"catch_up: expected one of {', '.join(CATCH_UP)}, got {catch_up!r}")
    return Entry(
        name=name,
        task=task,
        schedule=_settled(as_schedule(when, bool(given.get("relative"))), app, given.get("timezone")),
        args=_several(given.get("args")),
        kwargs=_table(given, "kwargs"),
        options=_options(task, _table(given, "options")),
        catch_up=catch_up,
        jitter_s=_seconds(given, "jitter") or 0.0,
        deadline_s=_seconds(given, "deadline"),
        enabled=given.get("enabled") is not False,
        source=source,
        brings=_brings(given.get("brings")),
    )


def entries_from(table: Mapping[str, Any], app: Any, source: str = "code") -> dict[str, Entry]:
    """Read a whole ``beat_schedule``. Raises: ConfigError with a fault for each entry that is wrong."""
    found: dict[str, Entry] = {}
    faults: list[Fault] = []
    for name, given in table.items():
        try:
            found[str(name)] = entry_from(str(name), given, app, source)
        except OpsqError as error:
            faults.append(Fault(str(error), f"beat_schedule {name!r}"))
    if faults:
        raise ConfigError(faults)
    return found


def as_data(entry: Entry) -> dict[str, Any]:
    """The entry as ``entry_from`` reads it, of plain data. Raises: UsageError for a schedule of one's own class."""
    spec = entry.spec()
    if spec is None:
        raise UsageError(f"entry {entry.name!r}: a schedule of type {type(entry.schedule).__name__} cannot be kept")
    return {
        "task": entry.task,
        "schedule": spec,
        "args": list(entry.args),
        "kwargs": dict(entry.kwargs),
        "options": dict(entry.options),
        "catch_up": entry.catch_up,
        "jitter": entry.jitter_s,
        "deadline": entry.deadline_s,
        "enabled": entry.enabled,
        "brings": entry.brings,
    }


def _settled(schedule: Any, app: Any, timezone: Any) -> Any:
    """With its zone fixed; a schedule that is not ours only learns of its app, as in Celery."""
    if hasattr(schedule, "settled"):
        return schedule.settled(app, timezone)
    if timezone is not None:
        raise UsageError(f"timezone: a {type(schedule).__name__} has none")
    schedule.app = app
    return schedule


def _several(given: Any) -> tuple[Any, ...]:
    if given is None:
        return ()
    if not isinstance(given, (list, tuple)):
        raise UsageError(f"args: expected a list or tuple, got {given!r:.100}; for one argument write [x]")
    return tuple(given)


def _table(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = given.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"{key}: expected a table, got {value!r:.100}")
    return {str(name): each for name, each in value.items()}


def _options(task: str, options: dict[str, Any]) -> dict[str, Any]:
    for name in _OURS & options.keys():
        raise UsageError(f"options: {name} is given by beat, to each tick its own")
    check_call_options(task, options)
    return options


def _brings(value: Any) -> int | dict[str, int] | None:
    counts = list(value.values()) if isinstance(value, Mapping) else [] if value is None else [value]
    if any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in counts):
        raise UsageError(f"brings: expected a number of tasks, or a table of queue to number, got {value!r:.100}")
    return {str(queue): count for queue, count in value.items()} if isinstance(value, Mapping) else value


def _seconds(given: Mapping[str, Any], key: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise UsageError(f"{key}: expected seconds, got {value!r:.100}")
    return float(value)
