"""Telling when entries are due, before they are, so that autoscalers have slots by then.

An entry that is due within ``HORIZON_S`` is announced (``schedule-due``), and again every ``FREQ_S``: a monitor or
worker that starts later learns of it, and a beat that is gone is noticed by its silence. What was changed, paused or
removed is announced at once, an entry without ticks to come as one without ticks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opsq.clock import Clock
from opsq.core.beat.ticks import next_tick, send_at
from opsq.core.schedules.entry import Entry
from opsq.core.schedules.state import State
from opsq.wire.schedule_hint import DUE

log = logging.getLogger(__name__)

FREQ_S: Final = 10.0
#: Longer than a replica takes to start, and than a group must be idle to go to zero.
HORIZON_S: Final = 600.0
#: Ticks of one entry in one announcement; of those that come faster, the load itself tells.
MOST_TICKS: Final = 60
#: Entries that are told of, those due soonest: of 10,000 that are due each minute nobody needs every one.
MOST_ENTRIES: Final = 500

Told = tuple[Entry, State, float]
"""An entry, how far it is, and when it is looked at next, epoch seconds."""


class Foreteller:
    """What one leading beat tells of its entries. Thread: the beat's loop.

    announce: takes an event, its kind and fields.
    """

    def __init__(self, app: Any, clock: Clock, announce: Callable[[str, dict[str, Any]], None]) -> None:
        self._app, self._clock, self._announce = app, clock, announce
        self._again_at = 0.0
        self._queues: dict[str, tuple[Entry, str | None]] = {}
        self._told: set[str] = set()

    @property
    def wait_s(self) -> float:
        """Seconds until it is to be told again."""
        return max(0.0, self._again_at - self._clock.monotonic())

    def begin(self) -> None:
        """This beat leads from now on, and has told nothing."""
        self._queues.clear()
        self._told.clear()
        self.hurry()

    def hurry(self) -> None:
        """Have ``tell`` say everything again: something was changed."""
        self._again_at = 0.0

    def tell(self, entries: Callable[[], Iterable[Told]]) -> None:
        """Announce what is due soon, when it is time. entries: those that are not paused."""
        if self.wait_s > 0:
            return
        self._again_at = self._clock.monotonic() + FREQ_S
        now = self._clock.now()
        known = list(entries())
        self._forget_all_but({entry.name for entry, _, _ in known})
        soon = sorted((each for each in known if each[2] <= now + HORIZON_S), key=lambda each: each[2])
        for entry, state, _ in soon[:MOST_ENTRIES]:
            # While a tick waits for the broker, nobody can say when the next ones come.
            due = [] if state.claim else coming(entry, state.anchor, now)
            if due or entry.name in self._told:
                self._say(entry, state, due, now)

    def end(self) -> None:
        """Say that nothing comes of what was announced: this beat leads no more."""
        self._withdraw(set(self._told))

    def _forget_all_but(self, names: set[str]) -> None:
        self._withdraw(self._told - names)
        for name in self._queues.keys() - names:
            del self._queues[name]

    def _withdraw(self, names: set[str]) -> None:
        for name in sorted(names):
            self._announce(DUE, {"name": name, "due": [], "freq": FREQ_S, "timestamp": self._clock.now()})
        self._told -= names

    def _say(self, entry: Entry, state: State, due: list[float], now: float) -> None:
        fields: dict[str, Any] = {"name": entry.name, "task": entry.task, "due": due, "freq": FREQ_S, "timestamp": now}
        queue = self._queue(entry)
        last = state.recent[-1] if state.recent else None
        told = {
            "queue": queue,
            "brings": _brings(entry, queue),
            "last_id": last.id if last is not None else None,
            "last_at": last.sent_at if last is not None else None,
        }
        self._announce(DUE, fields | {key: value for key, value in told.items() if value is not None})
        (self._told.add if due else self._told.discard)(entry.name)

    def _queue(self, entry: Entry) -> str | None:
        """Where its calls go; asked once for an entry, since a route may be a function of the user's."""
        known = self._queues.get(entry.name)
        if known is None or known[0] is not entry:
            known = self._queues[entry.name] = entry, self._routed(entry)
        return known[1]

    def _routed(self, entry: Entry) -> str | None:
        task = self._app.tasks.get(entry.task)
        options = {**(task.call_options() if task is not None else {}), **entry.options}
        try:
            router = options.get("router") or self._app.caller.router
            place = router.route(entry.task, entry.args, entry.kwargs, options, task)
        except Exception as error:  # noqa: BLE001  # boundary: a route may be the user's; the call will fail as loudly
            log.info("where an entry's calls go is not known", extra={"entry": entry.name, "error": str(error)})
            return None
        found: str | None = place.queue_name
        return found


def _brings(entry: Entry, queue: str | None) -> Mapping[str, int] | None:
    """What the user said, by queue; a number means the entry's own."""
    if not isinstance(entry.brings, int):
        return entry.brings
    return {} if queue is None else {queue: entry.brings}


def coming(entry: Entry, anchor: float, now: float, horizon_s: float = HORIZON_S) -> list[float]:
    """When the ticks after ``anchor`` will be sent, from now on until the horizon. Times are epoch seconds."""
    found: list[float] = []
    last, following = anchor, next_tick(entry.schedule, anchor, now)
    while following is not None and following > last and len(found) < MOST_TICKS:
        at = send_at(entry, following, now)
        if at > now + horizon_s:
            break
        if at > now:
            found.append(at)
        last, following = following, next_tick(entry.schedule, following, now)
    return found
