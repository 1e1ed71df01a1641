"""Bringing back what the dead held.

Each consumer looks about once a second; any one of them is enough. A consumer of ours is dead when
its process is gone from this very host, when the server has not listed its connection for five
seconds, or when its lease has ended. What stock consumers hold comes back after the visibility
time-out, as kombu does it.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from msgspec import Struct

from opsq.broker.redis.keys import Keys
from opsq.broker.redis.lease import Owner, give_back_all
from opsq.broker.redis.restore import Restorer
from opsq.broker.redis.scripts import CONDEMN, Scripts
from opsq.broker.redis.wire import ReplyError, Wire
from opsq.broker.sqlite.process import ProcessId, start_time
from opsq.clock import Clock

log = logging.getLogger(__name__)

MISSING_S = 5.0
SWEEP_S = 5.0
_SWEPT_AT_ONCE = 100

_read_owner = msgspec.json.Decoder(Owner).decode


class _Seen(Struct, frozen=True):
    """What the server says. now: its clock. listed: names of connections; ``None`` when it will not tell."""

    owners: dict[str, Owner | None]
    alive_until: dict[str, float]
    now: float
    listed: set[str] | None


class Reaper:
    """me: the consumer that looks. visibility_s: kombu's visibility time-out. Thread: that of the wire."""

    def __init__(
        self,
        wire: Wire,
        scripts: Scripts,
        keys: Keys,
        restorer: Restorer,
        clock: Clock,
        *,
        me: str,
        process: ProcessId,
        visibility_s: float,
    ) -> None:
        self._wire = wire
        self._scripts = scripts
        self._keys = keys
        self._restorer = restorer
        self._clock = clock
        self._me = me
        self._process = process
        self._visibility_s = visibility_s
        self._missing_since: dict[str, float] = {}
        self._sweep_at = 0.0
        self._passed_over = 0

    def run(self) -> int:
        """Do one pass; return how many messages went back."""
        seen = self._look()
        restored = 0
        for consumer in seen.owners.keys() | seen.alive_until.keys():
            if consumer != self._me and (verdict := self._judge(consumer, seen)):
                restored += self._bury(consumer, verdict)
        self._missing_since = {name: at for name, at in self._missing_since.items() if name in seen.owners}
        now = self._clock.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + min(SWEEP_S, self._visibility_s / 2)
            restored += self._sweep(seen.now)
        return restored

    def _look(self) -> _Seen:
        keys = self._keys
        owners, alive, time = self._wire.calls(
            [("HGETALL", keys.owners), ("ZRANGE", keys.alive_until, 0, -1, "WITHSCORES"), ("TIME",)]
        )
        found = {name.decode(): _owner(record) for name, record in owners.items()}
        others = [owner.client for name, owner in found.items() if owner is not None and name != self._me]
        return _Seen(
            found,
            {name.decode(): float(score) for name, score in alive},
            int(time[0]) + int(time[1]) / 1e6,
            self._listed(others) if others else None,
        )

    def _listed(self, clients: list[int]) -> set[str] | None:
        """Return the names of those of these connections that are there; numbers are used again, names not."""
        text = self._wire.ask("CLIENT", "LIST", "ID", *clients)
        if isinstance(text, ReplyError):
            return None  # not allowed here: leases decide
        return {
            word[5:]
            for line in text.decode(errors="replace").splitlines()
            for word in line.split(" ")
            if word.startswith("name=opsq:")
        }

    def _judge(self, consumer: str, seen: _Seen) -> str:
        """Return ``gone``, ``late`` (the script looks once more) or nothing."""
        owner = seen.owners.get(consumer)
        if owner is not None:
            if self._is_gone(owner.process):
                return "gone"
            if seen.listed is not None and self._is_missing(consumer, owner, seen.listed):
                return "gone"
        ends = seen.alive_until.get(consumer)
        return "late" if ends is None or ends < seen.now else ""

    def _is_gone(self, process: ProcessId) -> bool:
        here = self._process
        same_host = (process.boot, process.namespace) == (here.boot, here.namespace) and process.boot != ""
        return same_host and start_time(process.pid) != process.started

    def _is_missing(self, consumer: str, owner: Owner, listed: set[str]) -> bool:
        if owner.name in listed:
            self._missing_since.pop(consumer, None)
            return False
        if owner.process == self._process:
            return True  # our own, of a connection that was lost
        now = self._clock.monotonic()
        return now - self._missing_since.setdefault(consumer, now) >= MISSING_S

    def _bury(self, consumer: str, verdict: str) -> int:
        keys = [self._keys.alive_until, self._keys.owners, self._keys.lease(consumer)]
        if not self._scripts.run(CONDEMN, keys, consumer, verdict):
            return 0
        restored = give_back_all(self._wire, self._keys, self._restorer, consumer)
        self._missing_since.pop(consumer, None)
        log.warning("took back what a lost consumer held", extra={"consumer": consumer, "messages": restored})
        return restored

    def _sweep(self, now: float) -> int:
        """Put back what nobody, stock or ours, has renewed for the visibility time-out; a part at a time."""
        before = f"{now - self._visibility_s:.6f}"
        tags: Any = self._wire.call(
            "ZRANGEBYSCORE", self._keys.unacked_index, "-inf", before, "LIMIT", self._passed_over, _SWEPT_AT_ONCE
        )
        restored, unreadable = self._restorer.older_than(
            self._visibility_s, [tag.decode(errors="replace") for tag in tags]
        )
        # What cannot be read stays the oldest: looked at from the start each time, it would hide all the others.
        self._passed_over = self._passed_over + unreadable if len(tags) == _SWEPT_AT_ONCE else 0
        return restored


def _owner(record: bytes) -> Owner | None:
    try:
        return _read_owner(record)
    except msgspec.DecodeError:
        return None  # of a later version perhaps: only its lease counts
