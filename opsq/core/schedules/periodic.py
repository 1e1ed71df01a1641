"""``app.add_periodic_task``, and the entries that an app's code asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from opsq.core.schedules.crontab import crontab
from opsq.core.schedules.entry import KEYS, Entry, entries_from, entry_from
from opsq.core.schedules.zones import zone_of_settings
from opsq.errors import UsageError

CLEANUP: Final = "celery.backend_cleanup"
CLEANUP_EXPIRES_S: Final = 12 * 3600
#: Words of ``add_periodic_task`` that say something of the entry; the others are options of the call.
_OF_ENTRY: Final = frozenset(KEYS) - {"task", "schedule", "args", "kwargs", "options"}


class Periodic:
    """What an app has to do with time: its zone, and what it wants called again and again."""

    _periodic: dict[str, Entry]

    @property
    def timezone(self) -> tzinfo:
        """The zone of schedules and of dates without one."""
        settings = self.conf.load().settings  # type: ignore[attr-defined]  # of the app, which this is a part of
        return zone_of_settings(settings.timezone, settings.enable_utc)

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.clock.now(), UTC)  # type: ignore[attr-defined]  # as above

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """Have a task called again and again, by ``opsq beat``; returns the name of the entry.

        schedule: seconds, timedelta, crontab, solar, or text. sig: a signature, a task, or its name. options: of the
        call, and ``relative``, ``timezone``, ``jitter``, ``catch_up``, ``deadline``, ``enabled`` of the entry.
        Raises: UsageError for a name that another entry has.
        """
        task, given = _call_of(sig, args, kwargs)
        about = {key: options.pop(key) for key in _OF_ENTRY & options.keys()}
        label = name or _label(task, given)
        table = {"task": task, "schedule": schedule, **given, **about}
        table["options"] = {**given["options"], **options}
        entry = entry_from(label, table, self)
        known = vars(self).setdefault("_periodic", {})
        if known.setdefault(label, entry) != entry:
            raise UsageError(f"two periodic tasks are called {label!r}; give one of them another name with name=")
        return label


def entries_of(app: Any) -> dict[str, Entry]:
    """What the code of ``app`` asks for: ``beat_schedule``, ``add_periodic_task``, and the daily clean-up of results.

    Raises: ConfigError with every fault.
    """
    settings = app.settings
    found = entries_from(settings.beat_schedule, app)
    for name, entry in vars(app).get("_periodic", {}).items():
        found.setdefault(name, entry)
    if settings.result_expires and CLEANUP not in found and not app.backend.backend.capabilities.expires:
        options = {"expires": CLEANUP_EXPIRES_S}
        found[CLEANUP] = entry_from(CLEANUP, {"task": CLEANUP, "schedule": crontab("0", "4"), "options": options}, app)
    return found


def _call_of(sig: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    if isinstance(sig, Mapping):
        name = str(sig["task"])
        if sig.get("subtask_type"):
            raise UsageError(f"a schedule calls one task, got a {sig['subtask_type']}; make a task that starts it")
        merged = {**(sig.get("kwargs") or {}), **(kwargs or {})}
        return name, {
            "args": [*args, *(sig.get("args") or ())],
            "kwargs": merged,
            "options": dict(sig.get("options") or {}),
        }
    task = sig if isinstance(sig, str) else getattr(sig, "name", None)
    if not isinstance(task, str):
        raise UsageError(f"a schedule calls a task: expected a signature, a task or its name, got {sig!r:.100}")
    return task, {"args": list(args), "kwargs": dict(kwargs or {}), "options": {}}


def _label(task: str, given: Mapping[str, Any]) -> str:
    """Celery's default name, the call as it is written in code."""
    parts = [repr(each) for each in given["args"]]
    parts += [f"{key}={value!r}" for key, value in given["kwargs"].items()]
    return f"{task}({', '.join(parts)})"
