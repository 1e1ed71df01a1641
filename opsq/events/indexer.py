"""Keeps the search index behind the writer: a thread that takes rows that came to rest and makes segments of them.

It works in portions and pauses between them, for longer while much is written, because it shares the interpreter with
the fold. In a flood it waits at first, and catches up afterwards; of a flood that does not end it takes a growing
share of the time, up to a half. Whatever it has not done yet is found by looking at the rows, so it may stop anywhere.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from opsq.clock import Clock, SystemClock
from opsq.errors import StoreUnavailable
from opsq.events import inverted
from opsq.events.document import read
from opsq.events.evidence import FINAL_STATES
from opsq.events.rows import TaskRow

log = logging.getLogger(__name__)

ENDED: Final = tuple(name for _, name in FINAL_STATES)
#: An ended task whose last event is this old is taken: late ones, such as its acknowledgement, have arrived.
QUIET_S: Final = 2.0
#: Any task that nothing was heard of for so long is taken as it is.
LONG_QUIET_S: Final = 60.0
#: Fewer ripe rows than this wait for more, but not longer than ``LONGEST_WAIT_S``.
FEWEST: Final = inverted.SMALL_DOCS
LONGEST_WAIT_S: Final = 15.0
#: So many small segments become one.
MERGED_AT_ONCE: Final = 16
IDLE_S: Final = 1.0
#: Writing more rows a second than this counts as busy, and then only a sixth of the time is taken.
BUSY_ROWS_PER_S: Final = 2_000.0
#: Beyond this the fold needs the interpreter to itself, as long as it can be waited for.
FLOOD_ROWS_PER_S: Final = 6_000.0
#: (behind for less than so many seconds, share of the time that the index takes in a flood).
FLOOD_SHARES: Final = ((90.0, 0.0), (180.0, 1 / 6), (360.0, 1 / 3), (float("inf"), 1 / 2))
_BUSY_SHARE: Final = 1 / 6
_IDLE_SHARE: Final = 5 / 6
#: A portion that was full is followed by one so many times larger, up to a whole segment.
_GROWTH: Final = 4
_RETRY_S: Final = 5.0


class Ripe(NamedTuple):
    """A row to be indexed. stamp: of its last change. again: an older segment knows it. numbers: of its names."""

    stamp: int
    again: bool
    row: TaskRow
    numbers: Sequence[int | None]


class Small(NamedTuple):
    """A segment that may be merged with others."""

    id: int
    docs: int
    dead: bytes
    keys: array[int]


class IndexSide(Protocol):
    """What a store gives the indexer. Thread: the indexer's."""

    def ripe(self, stamped_before: int, ended: Sequence[str], stamped_long_before: int, limit: int) -> list[Ripe]:
        """Fresh rows that came to rest."""
        ...

    def holding(self, keys: Sequence[int]) -> list[tuple[int, bytes, array[int]]]:
        """(id, dead positions, keys) of the segments that may know one of these rows."""
        ...

    def add(self, segment: inverted.Segment, taken: Iterable[Ripe], dead: Sequence[tuple[int, bytes]]) -> None:
        """Keep a segment and mark positions of older ones dead, in one transaction."""
        ...

    def small(self, docs: int, limit: int) -> list[Small]:
        """The oldest segments with fewer tasks than that."""
        ...

    def blocks(self, segment: int) -> list[bytes]:
        """The blocks of a segment."""
        ...

    def replace(self, old: Sequence[int], new: inverted.Segment) -> None:
        """Put one segment in the place of several, in one transaction."""
        ...

    def tidy(self) -> None:
        """Do what the store wants done every second or so, beside its writer. Raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


def stamp_of(at: float) -> int:
    """The stamp of a change at ``at`` (epoch seconds), in nanoseconds; larger is later."""
    return int(at * 1e9)


class Indexer:
    """Makes segments. Thread: its own for ``run``; ``start``, ``stop``, ``wrote`` from any."""

    def __init__(self, side: IndexSide, clock: Clock | None = None) -> None:
        self._side = side
        self._clock = clock or SystemClock()
        self._builder = inverted.Builder()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._stepping = threading.Lock()
        self._written = 0
        self._per_s = 0.0
        self._portion = FEWEST
        self._looked_at = self._clock.monotonic()
        self._made_at = self._looked_at
        self._caught_up_at = self._looked_at

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._main, name="opsq-indexer", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop the thread; false when it still works after that long. May be called twice, or unstarted."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        self._side.close()
        return True

    def wrote(self, rows: int) -> None:
        """Take note of what the writer wrote. Thread: the writer's."""
        self._written += rows

    def _main(self) -> None:
        pause = IDLE_S
        while not self._stopping.wait(pause):
            began = self._clock.monotonic()
            pause = IDLE_S
            try:
                self._side.tidy()
                share = self.share()
                worked = share > 0 and self.step()
            except StoreUnavailable as error:
                log.warning("the search index stands still; searches look at more rows", extra={"error": str(error)})
                pause = _RETRY_S
                continue
            except Exception:  # boundary: a row that trips a bug must not end indexing for ever
                log.exception("the search index stands still; searches look at more rows")
                pause = _RETRY_S
                continue
            if worked:
                pause = (self._clock.monotonic() - began) * (1 / share - 1)
        self._side.close()  # here too, for when ``stop`` could not wait so long

    def flooded(self) -> bool:
        """Is more written now than can be indexed beside it? Thread: the indexer's."""
        now = self._clock.monotonic()
        if now - self._looked_at >= 1.0:
            # Halved at most: a writer that stood still for a moment has the more to write in the next.
            self._per_s = max(self._written / (now - self._looked_at), self._per_s / 2)
            self._written, self._looked_at = 0, now
        return self._per_s > FLOOD_ROWS_PER_S

    def share(self) -> float:
        """Which share of the time may be taken now; 0 for none. Thread: the indexer's."""
        flooded, lag_s = self.flooded(), self.lag_s
        if self._per_s <= BUSY_ROWS_PER_S:
            return _IDLE_SHARE
        due = next(share for until_s, share in FLOOD_SHARES if lag_s < until_s)
        return due if flooded else max(_BUSY_SHARE, due)

    @property
    def lag_s(self) -> float:
        """For how long tasks have come to rest that the index does not know. Thread: any."""
        return max(0.0, self._clock.monotonic() - self._caught_up_at)

    def step(self, *, everything: bool = False) -> bool:
        """Make one segment or merge some; false when there is nothing to do. everything: do not wait for rest.

        Thread: any, one after the other.
        """
        with self._stepping:
            return self._step(everything)

    def _step(self, everything: bool) -> bool:
        now = self._clock.now()
        quiet, long_quiet = (now + 1e6,) * 2 if everything else (now - QUIET_S, now - LONG_QUIET_S)
        portion = inverted.SEGMENT_DOCS if everything else self._portion
        ripe = self._side.ripe(stamp_of(quiet), ENDED, stamp_of(long_quiet), portion)
        waited = self._clock.monotonic() - self._made_at >= LONGEST_WAIT_S
        if len(ripe) < portion:
            self._caught_up_at = self._clock.monotonic()
        # A backlog is taken in whole segments, which are made once; what comes now and then in small ones.
        calm = self._per_s <= BUSY_ROWS_PER_S or self._per_s > FLOOD_ROWS_PER_S
        full = calm and len(ripe) == portion
        self._portion = min(portion * _GROWTH, inverted.SEGMENT_DOCS) if full else FEWEST
        if not ripe or not (everything or waited or len(ripe) >= FEWEST):
            return self._merge()
        for one in ripe:
            self._builder.add(one.row.key, one.row.id, one.numbers, read(one.row))
        self._side.add(self._builder.finish(), ripe, self._dead(ripe))
        self._made_at = self._clock.monotonic()
        return True

    def _dead(self, taken: Sequence[Ripe]) -> list[tuple[int, bytes]]:
        again = {one.row.key for one in taken if one.again}
        found = []
        for id, dead, keys in self._side.holding(sorted(again)) if again else ():
            positions = [position for position, key in enumerate(keys) if key in again]
            if positions:
                size = (len(keys) + 7) // 8
                bits = bytearray(dead or bytes(size))
                for position in positions:
                    bits[position >> 3] |= 1 << (position & 7)
                found.append((id, bytes(bits)))
        return found

    def _merge(self) -> bool:
        small = self._side.small(inverted.SEGMENT_DOCS // 2, MERGED_AT_ONCE)
        if len(small) < MERGED_AT_ONCE:
            return False
        chosen: list[Small] = []
        for one in small:
            if sum(other.docs for other in chosen) + one.docs <= inverted.SEGMENT_DOCS:
                chosen.append(one)
        parts = [
            (one.keys, self._side.blocks(one.id), inverted.bitmap(one.dead, one.docs) if one.dead else 0)
            for one in chosen
        ]
        self._side.replace([one.id for one in chosen], inverted.joined(parts))
        return True
