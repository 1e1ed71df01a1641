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
from typing import Any, Final, NamedTuple

import msgspec

from opsq.clock import Clock
from opsq.events.store import Store

log = logging.getLogger("opsq.audit")

KEPT_AT_HAND: Final = 500
LONGEST_PAGE: Final = 1_000
MOST_CHECKED: Final = 100_000
#: What stands before an entry's own hash in its record: the last of its fields.
_HASH: Final = b'"hash":"'
_OWN_BYTES: Final = 2 * 32 + len('"}')


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


class Link(msgspec.Struct, frozen=True):
    """What checking a chain reads of an entry."""

    chain: str = ""
    seq: int = 0
    prev: str = ""
    hash: str = ""


class Linked(NamedTuple):
    """A kept entry as its chain sees it. id: its place in the store. intact: its own hash fits what it says."""

    id: int
    link: Link
    intact: bool


class Checked(msgspec.Struct, frozen=True):
    """What checking the whole audit found. broken: ids of entries that do not fit, or follow none that is there.

    entries: how many were looked at. complete: that was all of them. cut: chains whose beginning retention took.
    """

    entries: int
    complete: bool
    broken: tuple[int, ...]
    cut: int


_ENTRIES: Final = msgspec.json.Decoder(Entry)
_LINKS: Final = msgspec.json.Decoder(Link)


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
            linked = msgspec.structs.replace(linked, hash=digest(msgspec.json.encode(linked)))
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
        found: list[Linked] = []
        before: int | None = None
        while len(found) < most and (page := self._store.audit(before, min(LONGEST_PAGE, most - len(found)))):
            found += [link_of(id, record) for id, _, record in page]
            before = page[-1][0]
        return check(found, complete=len(found) < most)

    def _newest_hash(self) -> str:
        newest = self.page(limit=1)
        return newest[0].entry.hash if newest else ""


def digest(record: bytes) -> str:
    """The hash of a record as it is kept: of all it says, the hash of the one before it included.

    Its own hash stands last and is left out. What is hashed is what is kept, not what it means: a field that a later
    version adds breaks no chain, and checking costs no writing.
    """
    own = max(0, len(record) - _OWN_BYTES)
    # Only where it really stands last: what somebody appends behind it has to be in the sum.
    blank = record[:own] + b'"}' if record.endswith(_HASH, 0, own) else record
    return hashlib.sha256(blank).hexdigest()


def read(id: int, record: bytes) -> Kept:
    """Read a kept entry; one that cannot be read is shown as what it is, never left out."""
    try:
        entry = _ENTRIES.decode(record)
    except (msgspec.DecodeError, RecursionError):
        entry = Entry(at=0.0, who="", how="", source="", act="", target="", outcome="", message="it cannot be read")
        return Kept(id, entry, False)
    return Kept(id, entry, digest(record) == entry.hash)


def link_of(id: int, record: bytes) -> Linked:
    """Read of a kept entry what its chain needs, for a fifth of the time."""
    try:
        link = _LINKS.decode(record)
    except (msgspec.DecodeError, RecursionError):
        return Linked(id, Link(), False)
    return Linked(id, link, digest(record) == link.hash)


def check(entries: Sequence[Linked], *, complete: bool) -> Checked:
    """Check entries, newest first: each must fit its hash, and follow the one before it in its chain."""
    broken: set[int] = {kept.id for kept in entries if not kept.intact}
    newer: dict[str, Linked] = {}
    for kept in entries:
        after = newer.get(kept.link.chain)
        if after is not None and (after.link.prev != kept.link.hash or after.link.seq != kept.link.seq + 1):
            broken.add(after.id)
        newer[kept.link.chain] = kept
    cut = [kept for kept in newer.values() if kept.link.seq > 1]
    # Retention takes the oldest, so a chain may begin late only where nothing older is left of any.
    oldest = entries[-1].id if entries else 0
    if complete:
        broken |= {kept.id for kept in cut if kept.id != oldest}
    return Checked(len(entries), complete, tuple(sorted(broken)), len(cut))
