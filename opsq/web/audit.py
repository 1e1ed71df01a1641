"""The audit: who did what, from where, with which effect. Every act, also those that failed or were refused.

Entries are appended to the history store and chained: each carries the hash of the one before it and its own, so
that a changed, removed or inserted entry shows. Each monitor process writes a chain of its own that begins with the
newest hash it found, so several monitors on one store need not agree on an order. Whoever can rewrite the whole store
can write a whole new chain; export it, or ship the log line that every entry leaves, where that matters.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from opsq.clock import Clock
from opsq.events.store import Store

log = logging.getLogger("opsq.audit")

KEPT_AT_HAND: Final = 500
LONGEST_PAGE: Final = 1_000
MOST_CHECKED: Final = 100_000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One act. at: epoch seconds. who: name of an account. how: they were recognised by. source: their address.

    values: what was asked, private values left out. before, after: what was known of the target. outcome: ``done``,
    ``failed`` or ``refused``. chain, seq: which chain, and the place in it from 1. prev: hash of the entry before.
    """

    at: float
    who: str
    how: str
    source: str
    act: str
    target: str
    outcome: str
    message: str = ""
    values: Mapping[str, Any] = {}
    before: Mapping[str, Any] = {}
    after: Mapping[str, Any] = {}
    chain: str = ""
    seq: int = 0
    prev: str = ""
    hash: str = ""


class Kept(msgspec.Struct, frozen=True):
    """An entry as it is kept. id: its place in the store. intact: its own hash fits what it says."""

    id: int
    entry: Entry
    intact: bool


class Checked(msgspec.Struct, frozen=True):
    """What checking the whole audit found. broken: ids of entries that do not fit, or follow none that is there.

    entries: how many were looked at. complete: that was all of them. cut: chains whose beginning retention took.
    """

    entries: int
    complete: bool
    broken: tuple[int, ...]
    cut: int


class Trail:
    """Writes and reads the audit. Thread: any. Raises: StoreUnavailable, every method but ``recent``."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._chain = secrets.token_hex(6)
        self._seq = 0
        self._last: str | None = None
        self._recent: OrderedDict[str, Entry] = OrderedDict()

    def note(self, entry: Entry) -> Entry:
        """Append an entry; returns it with its time, place and hash."""
        with self._lock:
            last = self._newest_hash() if self._last is None else self._last
            linked = msgspec.structs.replace(
                entry, at=self._clock.now(), chain=self._chain, seq=self._seq + 1, prev=last, hash=""
            )
            linked = msgspec.structs.replace(linked, hash=hash_of(linked))
            self._store.note(linked.at, msgspec.json.encode(linked))
            self._seq, self._last = linked.seq, linked.hash
            self._recent[linked.hash] = linked
            while len(self._recent) > KEPT_AT_HAND:
                self._recent.popitem(last=False)
        log.info(
            "%s by %s: %s", linked.act, linked.who or "nobody", linked.outcome,
            extra={"target": linked.target, "source": linked.source, "hash": linked.hash},
        )  # fmt: skip
        return linked

    def recent(self, hash: str) -> Entry | None:
        """An entry that this process wrote lately, by its hash."""
        with self._lock:
            return self._recent.get(hash)

    def page(self, before: int | None = None, limit: int = 100) -> tuple[Kept, ...]:
        """The newest entries, newest first; with ``before`` those with a smaller id."""
        found = self._store.audit(before, max(1, min(limit, LONGEST_PAGE)))
        return tuple(read(id, record) for id, _, record in found)

    def walk(self) -> Iterator[Kept]:
        """All entries, newest first, read a page at a time."""
        before: int | None = None
        while page := self.page(before, LONGEST_PAGE):
            yield from page
            before = page[-1].id

    def check(self, most: int = MOST_CHECKED) -> Checked:
        """Check hashes and links of the newest ``most`` entries."""
        found: list[Kept] = []
        for kept in self.walk():
            found.append(kept)
            if len(found) >= most:
                break
        return check(found, complete=len(found) < most)

    def _newest_hash(self) -> str:
        newest = self.page(limit=1)
        return newest[0].entry.hash if newest else ""


def hash_of(entry: Entry) -> str:
    """The hash of an entry: of all it says, the hash of the one before it included."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(entry, hash=""))).hexdigest()


def read(id: int, record: bytes) -> Kept:
    """Read a kept entry; one that cannot be read is shown as what it is, never left out."""
    try:
        entry = msgspec.json.decode(record, type=Entry)
    except (msgspec.DecodeError, RecursionError):
        entry = Entry(at=0.0, who="", how="", source="", act="", target="", outcome="", message="it cannot be read")
        return Kept(id, entry, False)
    return Kept(id, entry, hash_of(entry) == entry.hash)


def check(entries: Sequence[Kept], *, complete: bool) -> Checked:
    """Check entries, newest first: each must fit its hash, and follow the one before it in its chain."""
    broken: set[int] = {kept.id for kept in entries if not kept.intact}
    newer: dict[str, Kept] = {}
    for kept in entries:
        after = newer.get(kept.entry.chain)
        if after is not None and (after.entry.prev != kept.entry.hash or after.entry.seq != kept.entry.seq + 1):
            broken.add(after.id)
        newer[kept.entry.chain] = kept
    cut = [kept for kept in newer.values() if kept.entry.seq > 1]
    # Retention takes the oldest, so a chain may begin late only where nothing older is left of any.
    oldest = entries[-1].id if entries else 0
    if complete:
        broken |= {kept.id for kept in cut if kept.id != oldest and _older_left(entries, kept)}
    return Checked(len(entries), complete, tuple(sorted(broken)), len(cut))


def _older_left(entries: Sequence[Kept], first: Kept) -> bool:
    return any(kept.id < first.id and kept.entry.chain != first.entry.chain for kept in entries)
