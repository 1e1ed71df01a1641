"""Ask workers again for the events that never came.

A gap in an emitter's numbers is asked for once it is old enough to be no mere delay, in pieces, a few times; what
the worker has kept goes through the same fold as everything else, which is why asking twice harms nothing. What it
no longer has stays lost and counted. Clients and emitters inside child processes hear no commands: their gaps are
only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from opsq.chore import Chore
from opsq.clock import Clock, SystemClock
from opsq.control.mailer import Call
from opsq.events.sequence import Sequences
from opsq.wire.control import Reply
from opsq.wire.event import Event, Malformed, parse_events

COMMAND: Final = "replay"
EVERY_S: Final = 0.5
#: An event may be overtaken by later ones of another message; a younger gap is left alone.
SETTLES_S: Final = 1.0
ANSWER_S: Final = 3.0
MOST_TRIES: Final = 3
MOST_EVENTS: Final = 5_000
MOST_GAPS: Final = 10_000

#: (emitter, first number, last number)
Gap = tuple[str, int, int]
Take = Callable[[list[Event | Malformed]], None]


class Asker(Protocol):
    """What sends a command and collects the replies: ``opsq.control.mailer.Mailer``."""

    def ask(self, call: Call) -> list[Reply]:
        """Send and wait. Raises BrokerUnavailable."""
        ...


class ReplayStatus(msgspec.Struct, frozen=True):
    """asked: commands sent; repaired: events that came that way; given_up: gaps that nobody could fill."""

    asked: int = 0
    repaired: int = 0
    given_up: int = 0


class Replayer:
    """Looks for gaps and has them filled. Thread: one of its own; ``start``, ``stop`` and ``status`` from any.

    sequences: of the cluster; may_ask: whether a node hears commands. take: puts events into the stream.
    """

    def __init__(
        self,
        asker: Asker,
        sequences: Sequences,
        may_ask: Callable[[str], bool],
        take: Take,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._asker = asker
        self._sequences = sequences
        self._may_ask = may_ask
        self._take = take
        self._clock = clock or SystemClock()
        self._chore = Chore("opsq-replay", self.step, every_s=EVERY_S, failing="missed events cannot be asked for now")
        self._seen: dict[Gap, float] = {}
        self._tries: dict[Gap, int] = {}
        self.status = ReplayStatus()

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        self._chore.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop; false when it still waits for an answer. May be called twice, or unstarted."""
        return self._chore.stop(timeout_s)

    def step(self) -> None:
        """Ask once for every gap that is due. Thread: its own, or a test that has not started it."""
        now = self._clock.monotonic()
        for host, gap in self._due(now):
            if self._chore.stopping:
                return
            self._tries[gap] = self._tries.get(gap, 0) + 1
            self._ask(host, gap)

    def _due(self, now: float) -> list[tuple[str, Gap]]:
        """Gaps of workers, old enough and not tried too often; forgets those that are filled."""
        open_gaps: dict[Gap, str] = {}
        for emitter, known in self._sequences.emitters.copy().items():
            if known.holes and self._may_ask(known.host):
                for begin, end in tuple(known.holes)[-MOST_GAPS:]:
                    for first in range(begin, min(end, begin + 100 * MOST_EVENTS) + 1, MOST_EVENTS):
                        open_gaps[emitter, first, min(end, first + MOST_EVENTS - 1)] = known.host
        self._seen = {gap: self._seen.get(gap, now) for gap in open_gaps}
        self._tries = {gap: count for gap, count in self._tries.items() if gap in open_gaps}
        return [(host, gap) for gap, host in open_gaps.items() if self._is_due(gap, now)]

    def _is_due(self, gap: Gap, now: float) -> bool:
        tries = self._tries.get(gap, 0)
        return tries < MOST_TRIES and now - self._seen[gap] >= SETTLES_S * (1 + tries)

    def _ask(self, host: str, gap: Gap) -> None:
        emitter, first, last = gap
        arguments = {"emitter": emitter, "first": first, "last": last}
        call = Call(command=COMMAND, arguments=arguments, destination=(host,), timeout_s=ANSWER_S)
        answers = [reply.value for reply in self._asker.ask(call)]
        events = [event for answer in answers for event in _events(answer)]
        if events:
            self._take(events)
        done = any(isinstance(answer, dict) and answer.get("complete") is False for answer in answers)
        if done:  # the worker kept no more than that: asking again would bring the same
            self._tries[gap] = MOST_TRIES
        known = self.status
        self.status = ReplayStatus(
            known.asked + 1, known.repaired + len(events), known.given_up + (self._tries[gap] >= MOST_TRIES)
        )


def _events(answer: Any) -> Sequence[Event | Malformed]:
    """The events of a reply; whatever else it is holds none."""
    listed = answer.get("events") if isinstance(answer, dict) else None
    if not isinstance(listed, list) or not listed:
        return ()
    return parse_events(msgspec.json.encode(listed))
