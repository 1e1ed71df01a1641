"""What beats announced of their schedules since this monitor started. Thread: the writer's changes, any reads."""

from __future__ import annotations

from typing import Final

from opsq.events.bounds import LATENCY_S, Histogram
from opsq.wire.event import Event
from opsq.wire.schedule_hint import DUE, ScheduleHint, hint_of

TICK: Final = "schedule-tick"
#: Entries beyond so many are not told apart.
MOST_ENTRIES: Final = 1_000
OTHER: Final = "other"


class Entry:
    """One entry of a schedule. sent: calls that were due; asked: those that somebody asked for out of turn.

    missed: ticks its catch-up rule left out, as its beat counts them. sent_at: of the last call, epoch seconds.
    """

    __slots__ = ("asked", "late", "missed", "sent", "sent_at")

    def __init__(self) -> None:
        self.sent = 0
        self.asked = 0
        self.missed = 0
        self.sent_at: float | None = None
        self.late = Histogram(LATENCY_S)


class Ticks:
    """Every entry that was heard of. hints: what each beat said last of each entry's ticks to come, by its own clock.

    Hints outlive no monitor: beats say them again within seconds.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.hints: dict[tuple[str, str], ScheduleHint] = {}

    def heard(self, event: Event) -> None:
        """Take note of one event of a beat. Fields of a wrong type are left out, never an error."""
        if event.kind == DUE:
            self._hinted(hint_of(event))
        elif event.kind == TICK:
            self._ticked(event)

    def _hinted(self, hint: ScheduleHint | None) -> None:
        """Keep it, unless a later one of the same beat came first; by number, for a clock may be set back."""
        if hint is None:
            return
        key = (hint.host, hint.name)
        known = self.hints.get(key)
        if known is None and len(self.hints) >= MOST_ENTRIES:
            # The one that was said longest ago; a beat says what it has to say again.
            del self.hints[min(self.hints, key=lambda each: self.hints[each].at)]
        if known is None or known.emitter != hint.emitter or known.seq <= hint.seq:
            self.hints[key] = hint

    def _ticked(self, event: Event) -> None:
        """Count one tick."""
        fields = event.fields
        name = fields.get("name")
        name = name if isinstance(name, str) and name else OTHER
        if name not in self.entries and len(self.entries) >= MOST_ENTRIES:
            name = OTHER
        entry = self.entries.get(name)
        if entry is None:
            entry = self.entries[name] = Entry()
        if fields.get("asked") is True:
            entry.asked += 1
            return
        entry.sent += 1
        late_s, missed, sent_at = fields.get("late_s"), fields.get("missed"), fields.get("sent_at")
        if isinstance(late_s, (int, float)):
            entry.late.add(max(0.0, float(late_s)))
        if isinstance(missed, int):
            entry.missed = max(entry.missed, missed)
        if isinstance(sent_at, (int, float)):
            entry.sent_at = max(entry.sent_at or 0.0, float(sent_at))
