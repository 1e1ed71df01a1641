"""The scheduler: what there is to send, how far it is, and the sending.

A scheduler of your own (setting ``beat_scheduler``) is a subclass with another ``entries``; see
``examples/extend/scheduler.py``. All else (leading, catching up, remote control, the page) stays as it is.

Each tick goes: **claim** in the store → publish → write down. A leader that dies in between leaves its claim, and the
next one finds out what became of it (``post.py``).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec

from opsq.clock import Clock
from opsq.core.beat.foretell import Foreteller
from opsq.core.beat.lead import Lead, LostLead
from opsq.core.beat.post import Post
from opsq.core.beat.ticks import plan, send_at, tick_id
from opsq.core.framework import around, framework
from opsq.core.schedules.entry import Entry, entry_from
from opsq.core.schedules.periodic import entries_of
from opsq.core.schedules.state import ABOUT, ENTRY, RECENT, STATE, Run, State, about_of, encode, is_paused, states_in
from opsq.core.schedules.store import IDENTITY
from opsq.errors import BrokerUnavailable, ConfigError, OpsqError, StoreUnavailable

log = logging.getLogger(__name__)

CLAIMED_TOGETHER: Final = 50
"""Entries of which one write claims the ticks, where marks tell which of them were published."""
AGAIN_S: Final = 1.0
FORGET_S: Final = 7 * 86_400.0
"""State of an entry that is no more is kept so long: an old release may still be leading tomorrow."""
SLEEP_MAX_S: Final = 300.0

Announce = Callable[[str, dict[str, Any]], None]


@dataclass(slots=True)
class Item:
    """One entry with its state. next_at: when to look again, epoch seconds; None for never.

    kept_about: what the store says of it, so that it is written only when it changed.
    """

    entry: Entry
    state: State
    next_at: float | None = 0.0
    kept_about: bytes = b""


class Scheduler:
    """Sends what is due while it leads. Thread: the beat's loop, for every method.

    announce: takes an event, its kind and fields.
    """

    refresh_s: ClassVar[float | None] = None
    """How often ``entries`` is asked again; None asks once, when the beat begins to lead."""

    def __init__(self, app: Any, lead: Lead, clock: Clock, announce: Announce) -> None:
        self.app = app
        self.lead = lead
        self.clock = clock
        self.items: dict[str, Item] = {}
        self._announce = announce
        self._foreteller = Foreteller(app, clock, announce)
        self._post: Post | None = None
        self._identity = ""
        self._refreshed_at = 0.0
        self._sleep_max_s = app.settings.beat_max_loop_interval or SLEEP_MAX_S
        self._starting_deadline_s = app.settings.beat_cron_starting_deadline

    def entries(self) -> Mapping[str, Entry]:
        """What the code asks for; override it to read another source. Raises: ConfigError."""
        return entries_of(self.app)

    def take_over(self) -> None:
        """Read where the last leader left off. Raises: LostLead, StoreUnavailable, ConfigError."""
        rows = self.lead.store.read()
        if IDENTITY not in rows:
            rows[IDENTITY] = uuid.uuid4().hex.encode()
            self.lead.write({IDENTITY: rows[IDENTITY]})
        self._identity = rows[IDENTITY].decode()
        self._post = Post(self.app, self._identity)
        self._load(rows)
        self._foreteller.begin()

    def refresh(self) -> None:
        """Read everything again, when it is time. Raises: as ``take_over``."""
        if self.refresh_s is not None and self.clock.monotonic() - self._refreshed_at >= self.refresh_s:
            try:
                self._load(self.lead.store.read())
            except ConfigError as error:
                # Half written, perhaps: what was read before goes on.
                self._refreshed_at = self.clock.monotonic()
                log.error("the schedule cannot be read again", extra={"error": str(error)})

    def tick(self) -> float:
        """Send what is due; the seconds until there is something to do. Raises: LostLead, StoreUnavailable."""
        self.refresh()
        self.lead.keep()
        self._settle_claims([item for item in self.items.values() if item.state.claim and self._is_ready(item)])
        ready = [item for item in self.items.values() if not item.state.claim and self._is_ready(item)]
        together = CLAIMED_TOGETHER if ready and self._marks() else 1
        for start in range(0, len(ready), together):
            self._send(ready[start : start + together])
        self._foreteller.tell(self._awaited)
        return self._sleep_s()

    def end(self) -> None:
        """Say that nothing is to be expected any more of this one, which led until now."""
        self._foreteller.end()

    def send_now(self, name: str) -> str:
        """Send one call out of turn; its id. Raises: KeyError, BrokerUnavailable, and what is wrong with the call."""
        item = self.items[name]
        now, id = self.clock.now(), str(uuid.uuid4())
        self._published(item, id, now, asked=True)
        self.write_state(item)
        return id

    def put(self, entry: Entry, kept: bytes | None) -> Item:
        """Have ``entry`` from now on. kept: the row to keep it by, None for one of the code.

        Raises: LostLead, StoreUnavailable.
        """
        known = self.items.get(entry.name)
        item = self._item(entry, known.state if known is not None else None, self.clock.now())
        item.state.error = None
        self.lead.write({ENTRY + entry.name: kept, **self._rows([item])})
        self.items[entry.name] = item
        self._foreteller.hurry()
        return item

    def remove(self, name: str) -> bool:
        """Forget what remote control added or changed; false when the entry is still there, from the code.

        Raises: KeyError, LostLead, StoreUnavailable, ConfigError.
        """
        item = self.items[name]
        original = self.entries().get(name)
        if original is not None:
            self.put(original, None)
            return False
        del self.items[item.entry.name]
        self._foreteller.hurry()
        self.lead.write({ENTRY + name: None, STATE + name: None, ABOUT + name: None})
        return True

    def pause(self, name: str, paused: bool) -> None:
        """Send nothing of an entry until it is resumed; ticks meanwhile are not caught up. Raises: as ``put``."""
        item = self.items[name]
        if item.state.paused != paused:
            item.state.paused = paused
            item.state.anchor = max(item.state.anchor, self.clock.now())
            item.state.claim = []
            item.next_at = None if paused else 0.0
            self._foreteller.hurry()
        self.write_state(item)

    def write_state(self, *items: Item) -> None:
        """Write how far they are. Raises: LostLead, StoreUnavailable."""
        self.lead.write(self._rows(items))

    # ---- reading

    def _load(self, rows: Mapping[str, bytes]) -> None:
        now, states = self.clock.now(), states_in(rows)
        self._refreshed_at = self.clock.monotonic()
        entries = {**around(framework(), self.entries), **self._kept(rows)}
        items = {name: self._item(entry, states.get(name), now) for name, entry in entries.items()}
        for name, item in items.items():
            item.kept_about = rows.get(ABOUT + name, b"")
        self.items = items
        changes = self._rows(item for name, item in items.items() if self._is_news(item, rows.get(STATE + name)))
        for name, state in states.items():
            if name not in entries and now - state.seen_at > FORGET_S:
                changes |= {STATE + name: None}
            if name not in entries and ABOUT + name in rows:
                changes |= {ABOUT + name: None}
        self.lead.write(changes)

    def _kept(self, rows: Mapping[str, bytes]) -> dict[str, Entry]:
        found = {}
        for row, value in rows.items():
            if row.startswith(ENTRY):
                name = row.removeprefix(ENTRY)
                try:
                    found[name] = entry_from(name, msgspec.json.decode(value), self.app, "runtime")
                except (OpsqError, msgspec.DecodeError) as error:
                    log.error("a kept entry cannot be read and is left out", extra={"entry": name, "error": str(error)})
        return found

    def _item(self, entry: Entry, state: State | None, now: float) -> Item:
        spec = entry.spec()
        if state is None:
            state = State(anchor=now, spec=spec)
        elif state.spec != spec:
            # Ticks of the new schedule from before it was there were never asked for.
            state.anchor, state.spec, state.claim = max(state.anchor, now), spec, []
        state.seen_at = now
        return Item(entry, state, None if is_paused(entry, state) else 0.0)

    def _is_news(self, item: Item, kept: bytes | None) -> bool:
        return kept is None or encode(about_of(item.entry)) != item.kept_about or encode(item.state) != kept

    def _rows(self, items: Iterable[Item]) -> dict[str, bytes | None]:
        rows: dict[str, bytes | None] = {}
        for item in items:
            rows[STATE + item.entry.name] = encode(item.state)
            about = encode(about_of(item.entry))
            if about != item.kept_about:
                item.kept_about = about
                rows[ABOUT + item.entry.name] = about
        return rows

    # ---- sending

    def _awaited(self) -> Iterable[tuple[Entry, State, float]]:
        return ((item.entry, item.state, item.next_at) for item in self.items.values() if item.next_at is not None)

    def _is_ready(self, item: Item) -> bool:
        return item.next_at is not None and item.next_at <= self.clock.now()

    def _marks(self) -> bool:
        assert self._post is not None
        try:
            return self._post.marks()
        except BrokerUnavailable:
            return False  # nothing can be sent either

    def _send(self, items: list[Item]) -> None:
        now = self.clock.now()
        anchors = {}
        for item in items:
            found = plan(item.entry, item.state.anchor, now, self._starting_deadline_s)
            item.next_at = found.next_at
            item.state.missed += found.missed
            if found.due:
                item.state.claim = list(found.due)
                anchors[item.entry.name] = found.anchor
            else:
                item.state.anchor = found.anchor
            if found.missed:
                log.warning("ticks were missed", extra={"entry": item.entry.name, "missed": found.missed})
        claimed = [item for item in items if item.state.claim]
        self.write_state(*claimed)
        for item in claimed:
            if self._publish(item, item.state.claim):
                item.state.anchor = anchors[item.entry.name]
        self.write_state(*claimed)
        self._trim()

    def _settle_claims(self, items: list[Item]) -> None:
        """Finish what a leader before, or this one, was about to send when something went wrong."""
        if not items:
            return
        assert self._post is not None
        try:
            published = self._post.published()
        except BrokerUnavailable as error:
            self._put_off(items, error)
            return
        for item in items:
            self._settle(item, published)
        self.write_state(*items)

    def _settle(self, item: Item, published: frozenset[str] | None) -> None:
        state, last = item.state, max(item.state.claim)
        waiting = []
        for due in state.claim:
            id = tick_id(self._identity, item.entry.name, due)
            if published is not None and id in published:
                self._note(item, Run(id, due, due, 0.0))
            else:
                waiting.append(due)
                state.repeated += published is None
        if self._publish(item, waiting):
            state.anchor = max(state.anchor, last)
            item.next_at = 0.0

    def _publish(self, item: Item, dues: list[float]) -> bool:
        """Send these ticks; false when some are left, claimed, for later. Raises: LostLead, StoreUnavailable."""
        for place, due in enumerate(list(dues)):
            try:
                self._published(item, tick_id(self._identity, item.entry.name, due), due)
            except BrokerUnavailable as error:
                item.state.claim = list(dues[place:])
                self._put_off([item], error)
                return False
            except (LostLead, StoreUnavailable):
                raise
            except Exception as error:  # boundary: one entry's mistake must not hold up the others
                item.state.error = f"{type(error).__name__}: {error}"
                log.exception("a tick could not be sent", extra={"entry": item.entry.name, "task": item.entry.task})
        item.state.claim = []
        return True

    def _published(self, item: Item, id: str, due: float, asked: bool = False) -> None:
        """Publish one call, and note it. Raises: LostLead, StoreUnavailable, BrokerUnavailable, any of the call."""
        assert self._post is not None
        self.lead.keep()
        timeout_s = max(0.1, min(self.app.settings.publish_timeout, self.lead.left_s))
        self._post.send(item.entry, id, due, timeout_s)
        now = self.clock.now()
        planned_at = due if asked else send_at(item.entry, due, now)
        item.state.error = None
        self._note(item, Run(id, due, now, max(0.0, now - planned_at), asked))
        log.info("sent", extra={"entry": item.entry.name, "task": item.entry.task, "id": id})

    def _note(self, item: Item, run: Run) -> None:
        state, entry = item.state, item.entry
        state.total += 1
        state.late_max_s = max(state.late_max_s, run.late_s)
        state.recent = [*state.recent, run][-RECENT:]
        self._announce(
            "schedule-tick",
            {
                "name": entry.name, "task": entry.task, "id": run.id, "due_at": run.due_at, "sent_at": run.sent_at,
                "late_s": run.late_s, "asked": run.asked, "missed": state.missed, "timestamp": self.clock.now(),
            },
        )  # fmt: skip

    def _put_off(self, items: Iterable[Item], error: BrokerUnavailable) -> None:
        log.error("the broker takes nothing just now, ticks wait", extra={"error": str(error)})
        for item in items:
            item.next_at = self.clock.now() + AGAIN_S

    def _trim(self) -> None:
        if self._post is None or any(item.state.claim for item in self.items.values()):
            return
        try:
            self._post.trim()
        except BrokerUnavailable as error:
            log.info("marks are left for later", extra={"error": str(error)})

    def _sleep_s(self) -> float:
        now = self.clock.now()
        waits = [item.next_at - now for item in self.items.values() if item.next_at is not None]
        most_s = min(self._sleep_max_s, self.refresh_s or self._sleep_max_s, self._foreteller.wait_s)
        return max(0.0, min([most_s, *waits]))
