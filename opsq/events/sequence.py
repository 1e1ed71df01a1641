"""Which events of a numbering emitter never arrived: gaps in ``seq``, counted and repaired.

Loss is never silent: a hole in an emitter's numbers is lost until the event turns up after all. Emitters that do
not number their events (Celery's) are unknown, which is not the same as none lost.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec


class Emitter(msgspec.Struct, array_like=True):
    """The numbers seen of one emitter: ``first`` to ``last`` but the holes, as (from, to) with both ends included.

    given_up: numbers in holes that were dropped because there were too many to keep; they stay lost.
    """

    host: str
    first: int
    last: int
    holes: list[tuple[int, int]] = []
    given_up: int = 0
    seen_at: float = 0.0

    @property
    def lost(self) -> int:
        """How many of its events are missing now."""
        return self.given_up + sum(end - begin + 1 for begin, end in self.holes)


class Sequences:
    """The emitters of a cluster. Thread: the writer's; reading a number from another thread is harmless."""

    def __init__(self, *, max_emitters: int = 10_000, max_holes: int = 1_000) -> None:
        self._max_emitters = max_emitters
        self._max_holes = max_holes
        self.emitters: dict[str, Emitter] = {}
        #: Hosts that sent events without a number, with when they last did.
        self.unnumbered: dict[str, float] = {}
        #: Lost events of emitters that were forgotten since.
        self.lost_before = 0

    @property
    def lost(self) -> int:
        """Events that numbering emitters sent and that never came."""
        return self.lost_before + sum(emitter.lost for emitter in self.emitters.copy().values())

    def seen(self, emitter_id: str, host: str, seq: int, now: float) -> None:
        """Note one number."""
        emitter = self.emitters.get(emitter_id)
        if emitter is None:
            self._bound()
            self.emitters[emitter_id] = Emitter(host, seq, seq, [], 0, now)
            return
        emitter.seen_at = now
        if seq == emitter.last + 1:
            emitter.last = seq
        elif seq > emitter.last:
            emitter.holes.append((emitter.last + 1, seq - 1))
            emitter.last = seq
            if len(emitter.holes) > self._max_holes:
                begin, end = emitter.holes.pop(0)
                emitter.given_up += end - begin + 1
        elif emitter.holes:
            _fill(emitter, seq)

    def seen_unnumbered(self, host: str, now: float) -> None:
        """Note an event that carries no number."""
        if host in self.unnumbered or len(self.unnumbered) < self._max_emitters:
            self.unnumbered[host] = now

    def _bound(self) -> None:
        if len(self.emitters) >= self._max_emitters:
            oldest = min(self.emitters, key=lambda key: self.emitters[key].seen_at)
            self.lost_before += self.emitters.pop(oldest).lost

    def gaps_of(self, host: str) -> int | None:
        """Events lost from a host, ``None`` when none of its emitters numbers them."""
        found = [emitter.lost for emitter in self.emitters.copy().values() if emitter.host == host]
        return sum(found) if found else None


def _fill(emitter: Emitter, seq: int) -> None:
    position = bisect_right(emitter.holes, seq, key=_begin) - 1
    if position < 0:
        return
    begin, end = emitter.holes[position]
    if seq <= end:
        rest = [(begin, seq - 1), (seq + 1, end)]
        emitter.holes[position : position + 1] = [(low, high) for low, high in rest if low <= high]


def _begin(hole: tuple[int, int]) -> int:
    return hole[0]
