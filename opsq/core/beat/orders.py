"""What the leading beat does at remote commands. Thread: the beat's loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from opsq.core.beat.scheduler import Scheduler
from opsq.core.schedules.entry import Entry, as_data, entry_from
from opsq.core.schedules.spec import schedule_from_text, spec_of, text_of
from opsq.core.schedules.state import book_in, encode
from opsq.errors import UsageError

Handler = Callable[..., dict[str, Any]]
_DATA: Final = ("args", "kwargs", "options", "brings")
_PLAIN: Final = ("task", "timezone", "relative", "jitter", "catch_up", "deadline")
MOST_ENTRIES: Final = 10_000


def schedule_list(scheduler: Scheduler) -> dict[str, Any]:
    """Everything, as a page shows it."""
    store = scheduler.lead.store
    found: dict[str, Any] = msgspec.to_builtins(book_in(store.read(), store.leader()))
    return found


def schedule_add(scheduler: Scheduler, name: str, **given: Any) -> dict[str, Any]:
    """Add or replace."""
    if not name or len(name) > 200:
        raise UsageError("name: expected text of 1 to 200 characters")
    if len(scheduler.items) >= MOST_ENTRIES and name not in scheduler.items:
        raise UsageError(f"there are {MOST_ENTRIES} entries already")
    return _put(scheduler, name, _read(given))


def schedule_edit(scheduler: Scheduler, name: str, **given: Any) -> dict[str, Any]:
    """Change some of it."""
    known = _known(scheduler, name)
    changes = {key: value for key, value in given.items() if value is not None and (key, value) != ("relative", False)}
    if not changes:
        raise UsageError("say what to change, such as schedule=30s")
    before = as_data(known)
    if "schedule" not in changes:
        # As data it keeps its zone, which would otherwise win over a new one.
        before["schedule"] = {
            **before["schedule"],
            "timezone": changes.get("timezone", before["schedule"].get("timezone")),
        }
    else:
        before["timezone"] = before["schedule"].get("timezone")
    return _put(scheduler, name, {**before, **_read(changes)})


def schedule_remove(scheduler: Scheduler, name: str) -> dict[str, Any]:
    """Remove, or go back to what the code says."""
    known = _known(scheduler, name)
    if known.source == "code":
        raise UsageError(f"{name!r} comes from the code and cannot be removed; pause it, or take it out of the code")
    gone = scheduler.remove(name)
    return {"ok": f"{name} removed" if gone else f"{name} is again as the code says"}


def schedule_pause(scheduler: Scheduler, name: str) -> dict[str, Any]:
    """Pause."""
    scheduler.pause(_known(scheduler, name).name, True)
    return {"ok": f"{name} paused"}


def schedule_resume(scheduler: Scheduler, name: str) -> dict[str, Any]:
    """Resume."""
    scheduler.pause(_known(scheduler, name).name, False)
    return {"ok": f"{name} resumed"}


def schedule_run(scheduler: Scheduler, name: str) -> dict[str, Any]:
    """Send one call."""
    id = scheduler.send_now(_known(scheduler, name).name)
    return {"ok": f"{name} sent", "id": id}


HANDLERS: Final[Mapping[str, Handler]] = {
    "schedule_list": schedule_list,
    "schedule_add": schedule_add,
    "schedule_edit": schedule_edit,
    "schedule_remove": schedule_remove,
    "schedule_pause": schedule_pause,
    "schedule_resume": schedule_resume,
    "schedule_run": schedule_run,
}
"""By name in ``control/schedules.py``; a test checks that none is missing."""


def _known(scheduler: Scheduler, name: str) -> Entry:
    item = scheduler.items.get(name)
    if item is None:
        raise UsageError(f"there is no entry {name!r}; there are {', '.join(sorted(scheduler.items)[:20]) or 'none'}")
    return item.entry


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command as an entry has them."""
    found = {key: given[key] for key in _PLAIN if given.get(key) is not None}
    relative = bool(found.pop("relative", False))
    if given.get("schedule") is not None:
        found["schedule"] = spec_of(schedule_from_text(str(given["schedule"]), relative))
    for key in _DATA:
        value = given.get(key)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise UsageError(f"{key}: expected JSON, got {value!r:.100}") from None
        if value is not None:
            found[key] = value
    return found


def _put(scheduler: Scheduler, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    entry = entry_from(name, data, scheduler.app, "runtime")
    scheduler.put(entry, encode(as_data(entry)))
    return {"ok": f"{name}: {entry.task}, {text_of(entry.schedule)}"}
