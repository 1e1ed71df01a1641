"""Parts of the search index that were read lately, in memory: a segment never changes, so what was read stays true."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

MOST_BYTES: Final = 32 * 1024 * 1024
_MOST_DIRECTORIES: Final = 4_096
#: Stands for the row keys of a segment among its blocks, whose numbers are not negative.
KEYS: Final = -1
#: What the blocks of a segment begin with, in order.
Directory: TypeAlias = "array[int]"


class SegmentCache:
    """Blocks and row keys as bytes, the longest unused leave first. Thread: any."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._firsts: dict[int, Directory] = {}

    def get(self, segment: int, first: int) -> bytes | None:
        """One block by the number it begins with, or the row keys."""
        with self._lock:
            data = self._held.get((segment, first))
            if data is not None:
                self._held.move_to_end((segment, first))
            return data

    def put(self, segment: int, first: int, data: bytes) -> None:
        """Keep what was read."""
        with self._lock:
            known = self._held.pop((segment, first), b"")
            self._held[segment, first] = data
            self._bytes += len(data) - len(known)
            while self._bytes > self._most:
                self._bytes -= len(self._held.popitem(last=False)[1])

    def directory(self, segments: Iterable[int]) -> dict[int, Directory]:
        """Where the blocks of these segments begin, as far as it is known."""
        with self._lock:
            return {segment: known for segment in segments if (known := self._firsts.get(segment)) is not None}

    def learn(self, segment: int, firsts: Sequence[int]) -> Directory:
        """Keep where the blocks of a segment begin, in order."""
        known = array("q", firsts)
        with self._lock:
            while len(self._firsts) >= _MOST_DIRECTORIES:
                del self._firsts[next(iter(self._firsts))]
            self._firsts[segment] = known
        return known


def block_of(directory: Directory, term: int) -> int | None:
    """The beginning of the only block that can have the term; ``None`` when none can."""
    place = bisect_right(directory, term)
    return directory[place - 1] if place else None
