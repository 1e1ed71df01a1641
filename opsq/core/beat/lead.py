"""Leading: held by a lease that is renewed, and known to be held by this process's own clock."""

from __future__ import annotations

from opsq.clock import Clock
from opsq.core.schedules.store import ScheduleStore

RENEW_AT = 2 / 3
"""A lease is renewed when so much of it is left."""
SURE_UNTIL = 0.2
"""With so much of it left nothing is sent any more: the successor may be about to begin."""


class LostLead(Exception):
    """Another beat leads, or may soon: nothing may be sent or written any more."""


class Lead:
    """The lease of one beat. Thread: one at a time. holder: its name, unique. ttl_s: how long a lease is."""

    def __init__(self, store: ScheduleStore, holder: str, ttl_s: float, clock: Clock) -> None:
        self.store = store
        self.holder = holder
        self.ttl_s = ttl_s
        self._clock = clock
        self._token: int | None = None
        self._until = 0.0

    @property
    def token(self) -> int | None:
        """The number of the lease, None without one."""
        return self._token

    @property
    def renew_in_s(self) -> float:
        """How long until it is to be renewed."""
        return max(0.0, self._until - self._clock.monotonic() - self.ttl_s * RENEW_AT)

    @property
    def left_s(self) -> float:
        """How long something may still be sent."""
        return self._until - self._clock.monotonic() - self.ttl_s * SURE_UNTIL

    def take(self) -> bool:
        """Lead, if nobody else does. Raises: StoreUnavailable."""
        # By our clock it ends before it does in the store: counted from before we asked.
        asked_at = self._clock.monotonic()
        self._token = self.store.acquire(self.holder, self.ttl_s)
        self._until = asked_at + self.ttl_s
        return self._token is not None

    def keep(self) -> int:
        """Renew when it is time; the token. Raises: LostLead, StoreUnavailable."""
        if self._token is None:
            raise LostLead
        if self.renew_in_s > 0:
            return self._token
        asked_at = self._clock.monotonic()
        if not self.store.renew(self._token, self.ttl_s):
            self.drop()
            raise LostLead
        self._until = asked_at + self.ttl_s
        return self._token

    def write(self, changes: dict[str, bytes | None]) -> None:
        """Write rows as the leader. Raises: LostLead, StoreUnavailable."""
        if changes and not self.store.write(self.keep(), changes):
            self.drop()
            raise LostLead

    def drop(self) -> None:
        """Lead no more."""
        self._token = None

    def release(self) -> None:
        """Lead no more, and say so."""
        token, self._token = self._token, None
        if token is not None:
            self.store.release(token)
