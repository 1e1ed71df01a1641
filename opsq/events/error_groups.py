"""Failures of the same cause, as one thing: what it is, when it was first and last heard of, where to look.

Counts and trends of a group are slices like those of a task type (series ``e:`` and ``x:``), so they follow evidence.
What is kept here are facts that only grow: least and greatest times, the newest examples. They depend on the set of
failure events, never on their order, and duplicates change nothing. A bounded number of groups is told apart; beyond
it failures count together.

Thread: the writer's; ``copy`` from any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from opsq.events.faults import fault_of
from opsq.wire.event import Event

FAILING: Final = frozenset({"task-failed", "task-retried"})
SAMPLES: Final = 10
#: Groups not heard of for this long make room for new ones.
FORGET_S: Final = 90 * 86400.0
#: What the names of groups in the ledger begin with.
LEDGER: Final = "error:"
_LONGEST_TRACEBACK: Final = 8_192
_LONGEST_EXCEPTION: Final = 1_024
_LONGEST_ID: Final = 255
_ENCODER: Final = msgspec.msgpack.Encoder()


class ErrorFacts(msgspec.Struct, array_like=True):
    """What is known of a group besides its counts. Times in epoch seconds of the workers.

    newest: (at, task id) of the latest failures, latest first. told: (at, task id, exception, traceback) of the latest.
    """

    fault: str
    first_at: float
    last_at: float
    newest: list[tuple[float, str]] = []
    told: tuple[float, str, str, str] = (0.0, "", "", "")


def joined(one: bytes, other: bytes) -> bytes:
    """What two monitors stored of the same group, as one; a group that one of them forgot is the other's."""
    if not one or not other:
        return one or other
    mine, theirs = (msgspec.msgpack.decode(data, type=ErrorFacts) for data in (one, other))
    newest = sorted({*mine.newest, *theirs.newest}, reverse=True)[:SAMPLES]
    facts = ErrorFacts(
        mine.fault,
        min(mine.first_at, theirs.first_at),
        max(mine.last_at, theirs.last_at),
        newest,
        max(mine.told, theirs.told),
    )
    return _ENCODER.encode(facts)


def event_fault(event: Event) -> str | None:
    """The group a failure event belongs to, ``None`` when it tells nothing of an error."""
    exception, fingerprint = _text(event, "exception"), _text(event, "fingerprint")
    if exception is None and fingerprint is None:
        return None
    return fault_of(exception, _text(event, "traceback"), fingerprint)


def _text(event: Event, name: str) -> str | None:
    value = event.fields.get(name)
    return value if type(value) is str and value else None


class ErrorGroups:
    """The groups of a cluster."""

    def __init__(self, max_groups: int) -> None:
        self._max = max_groups
        self._facts: dict[str, ErrorFacts] = {}
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._facts)

    def restore(self, ledger: Mapping[str, bytes]) -> None:
        """Put stored groups back."""
        for key, data in ledger.items():
            if key.startswith(LEDGER) and data:
                facts = msgspec.msgpack.decode(data, type=ErrorFacts)
                self._facts[facts.fault] = facts

    def shrink(self, now: float) -> None:
        """When there is no room left, forget the groups of long ago."""
        if len(self._facts) >= self._max:
            for fault in [fault for fault, facts in self._facts.items() if facts.last_at < now - FORGET_S]:
                del self._facts[fault]
                self._changed.add(fault)

    def admit(self, fault: str, other: str) -> str:
        """The name a failure counts under: its own, or ``other`` when there are too many groups."""
        if fault in self._facts:
            return fault
        if len(self._facts) >= self._max:
            return other
        self._facts[fault] = ErrorFacts(fault, float("inf"), 0.0)
        return fault

    def heard(self, fault: str, event: Event) -> None:
        """Take in one failure event of the group."""
        at, id = event.timestamp, (event.uuid or "")[:_LONGEST_ID]
        facts = self._facts.get(fault)
        if facts is None:
            facts = self._facts[fault] = ErrorFacts(fault, at, at)
        facts.first_at, facts.last_at = min(facts.first_at, at), max(facts.last_at, at)
        newest = facts.newest
        if (at, id) not in newest and (len(newest) < SAMPLES or (at, id) > newest[-1]):
            facts.newest = sorted([*newest, (at, id)], reverse=True)[:SAMPLES]
        if (at, id) >= facts.told[:2]:
            exception = (_text(event, "exception") or "")[:_LONGEST_EXCEPTION]
            traceback = (_text(event, "traceback") or "")[-_LONGEST_TRACEBACK:]
            # Two accounts of the same moment: the greater text, so that their order cannot matter.
            facts.told = max(facts.told, (at, id, exception, traceback))
        self._changed.add(fault)

    def take(self) -> dict[str, bytes]:
        """Groups changed since the last call, as the ledger keeps them; nothing for those forgotten."""
        taken = {}
        for fault in self._changed:
            facts = self._facts.get(fault)
            taken[LEDGER + fault] = b"" if facts is None else _ENCODER.encode(facts)
        self._changed.clear()
        return taken

    def get(self, fault: str) -> ErrorFacts | None:
        """One group. Thread: any."""
        return self._facts.get(fault)

    def copy(self) -> list[ErrorFacts]:
        """All groups that were heard of. Thread: any; the records may still change."""
        return [facts for facts in list(self._facts.values()) if facts.last_at]
