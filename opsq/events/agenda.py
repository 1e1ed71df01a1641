"""What schedules will publish soon, for the fleet's autoscaler: what beats said, by our clock, with what was learned.

How many tasks a tick brings is what the entry says, else what its last tick brought: the rows of the workflow that its
call began, as they came within ``BROUGHT_S``. So an entry whose task publishes a thousand others needs no word of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Final

from opsq.events.records import key_time
from opsq.events.skew import Skews
from opsq.events.store import Store
from opsq.events.ticks import Ticks
from opsq.wire.schedule_hint import Brought, ScheduleHint, Upcoming, upcoming

#: What a tick's call publishes within so long is its doing; a workflow's later steps come when they come.
BROUGHT_S: Final = 5.0
#: Tasks of one tick that are counted; of one that brings more, the entry can say it.
MOST_BROUGHT: Final = 2_000


class Agenda:
    """Reads hints. Thread: one, the autoscaler's."""

    def __init__(self, store: Store, ticks: Ticks, skews: Skews) -> None:
        self._store, self._ticks, self._skews = store, ticks, skews
        #: (id of the call, what it brought), by entry.
        self._learned: dict[str, tuple[str, Brought]] = {}

    def upcoming(self, queues: Collection[str], now: float) -> tuple[Upcoming, ...]:
        """Ticks to come whose tasks go to ``queues``, soonest first. now: epoch seconds, our clock."""
        latest: dict[str, ScheduleHint] = {}
        for told in self._ticks.hints.copy().values():
            ahead_s = self._skews.ahead_s(told.host)
            hint = told.shifted(-ahead_s) if ahead_s else told
            known = latest.get(hint.name)
            # After a change of the lead two beats have spoken of an entry, and the later one leads.
            if hint.is_fresh(now) and (known is None or known.at < hint.at):
                latest[hint.name] = hint
        for name in self._learned.keys() - latest.keys():
            del self._learned[name]
        return upcoming(latest.values(), dict.fromkeys(queues, 1.0), now, lambda hint: self._brought(hint, now))

    def _brought(self, hint: ScheduleHint, now: float) -> Brought | None:
        """Tasks by queue of the entry's last tick that was long enough ago; None when none is known."""
        known = self._learned.get(hint.name)
        id, at = hint.last_id, hint.last_at
        if id is None or at is None or now - at < BROUGHT_S or (known is not None and known[0] == id):
            return None if known is None else known[1]
        rows = self._store.relatives(id, MOST_BROUGHT)
        found: Counter[str] = Counter(row.queue for row in rows if row.queue and key_time(row.key) - at <= BROUGHT_S)
        if hint.queue is not None:
            found[hint.queue] += 1
        self._learned[hint.name] = id, found
        return found
