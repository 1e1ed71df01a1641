"""What is counted for metrics alone, since this monitor started: by worker, task type and queue together.

The history's own figures are sums over evidence and outlive the monitor; these are what Flower and celery-exporter
count, with their labels, and the last task that fell in each bucket of a histogram. Places beyond a bound count
together. Thread: the writer's changes, any reads the copies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from opsq.events.bounds import CLIENT_S, LATENCY_S, WAIT_S, Exemplar, Histogram
from opsq.events.life import OUTCOMES, Run, Summary
from opsq.events.records import DepthSample
from opsq.events.rollup import SEGMENTS
from opsq.events.ticks import Ticks
from opsq.wire.event import Event

#: Stands for every name beyond a bound, in labels.
OTHER: Final = "other"
#: (worker, type, queue)
PlaceKey = tuple[str, str | None, str | None]
#: The place of all that are not told apart.
_REST: Final[PlaceKey] = (OTHER, OTHER, OTHER)
#: (task type, position in SEGMENTS, position among LATENCY_S)
_Bucket = tuple[str | None, int, int]

_SUCCEEDED: Final = OUTCOMES.index("succeeded")
_BROKER, _PREFETCH, _RUN = (SEGMENTS.index(name) for name in ("broker", "prefetch", "run"))
_SHOWN_SEGMENTS: Final = (_BROKER, _PREFETCH, _RUN)
_MOST_EXCEPTIONS: Final = 20
_MOST_EXEMPLARS: Final = 20_000
#: In a flood one task of each so many seconds is an example, and every one that ran long.
_EXAMPLE_EVERY_S: Final = 0.002
_LONG_S: Final = 1.0
#: Ends arrive out of order by less than this; what ended longer before the last example has another clock.
_DISORDER_S: Final = 10.0
_UNKNOWN_EXCEPTION: Final = "UnknownException"


class Place:
    """One worker, task type and queue. kinds: events by kind. failures: failed events by exception class.

    run: run times of attempts that succeeded. wait: from publishing (or being due) to running. prefetch_s: how long
    the attempt that ended last was held by the worker.
    """

    __slots__ = ("failures", "kinds", "prefetch_s", "run", "wait")

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.run = Histogram(CLIENT_S)
        self.wait = Histogram(WAIT_S)
        self.prefetch_s: float | None = None


class Tally:
    """Counts places, a bounded number of them. most: how many are told apart; more count under ``other``.

    ticks: what beats announced. quarantine: how many messages were set aside, as the broker said last.
    """

    def __init__(self, most: int = 200) -> None:
        self.most = most
        self.places: dict[PlaceKey, Place] = {}
        self.exemplars: dict[_Bucket, Exemplar] = {}
        self._example_at = 0.0
        self.ticks = Ticks()
        self.quarantine: DepthSample | None = None

    @property
    def merged(self) -> int:
        """How many events were counted under ``other``."""
        rest = self.places.get(_REST)
        return sum(rest.kinds.copy().values()) if rest else 0

    def told(self, events: Sequence[Event], summary: Summary) -> None:
        """Count the events of one task, of which at least one told something new."""
        host, place = None, None
        for event in events:
            if place is None or event.hostname != host:
                host = event.hostname
                place = self._place((host, summary.type, summary.queue))
            kind, kinds = event.kind, place.kinds
            kinds[kind] = kinds.get(kind, 0) + 1
            if kind == "task-failed":
                _failed(place, event)

    def ended(self, id: str, before: Summary | None, after: Summary) -> None:
        """Measure the attempts of a task that ended since ``before``; each is measured once, as it is first known."""
        fresh = len(after.runs) - (0 if before is None else len(before.runs))
        for run in after.runs[-fresh:] if fresh > 0 else ():
            place = self._place((run.worker, after.type, after.queue))
            segments = run.segments
            ran, prefetch_s = segments[_RUN], segments[_PREFETCH]
            if ran is not None and run.outcome == _SUCCEEDED:
                place.run.add(ran)
            if prefetch_s is not None:
                place.prefetch_s = prefetch_s
                place.wait.add(prefetch_s + (segments[_BROKER] or 0.0))
            since_s = run.at - self._example_at
            if not -_DISORDER_S < since_s < _EXAMPLE_EVERY_S or (ran is not None and ran >= _LONG_S):
                self._example_at = run.at
                self._example(id, after.type, run)

    def _place(self, key: PlaceKey) -> Place:
        known = self.places.get(key)
        if known is not None:
            return known
        if len(self.places) >= self.most:
            key = _REST
            if key in self.places:
                return self.places[key]
        made = self.places[key] = Place()
        return made

    def _example(self, id: str, type: str | None, run: Run) -> None:
        for segment in _SHOWN_SEGMENTS:
            value_s = run.segments[segment]
            if value_s is not None:
                key = (type, segment, bisect_left(LATENCY_S, value_s))
                if key in self.exemplars or len(self.exemplars) < _MOST_EXEMPLARS:
                    self.exemplars[key] = Exemplar(id, value_s, run.at)


def _failed(place: Place, event: Event) -> None:
    told = event.fields.get("exception")
    name = told.partition("(")[0].rpartition(".")[2] if isinstance(told, str) else ""
    known = name in place.failures or len(place.failures) < _MOST_EXCEPTIONS
    name = name if name.isidentifier() and known else _UNKNOWN_EXCEPTION
    place.failures[name] = place.failures.get(name, 0) + 1
