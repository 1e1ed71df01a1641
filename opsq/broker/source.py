"""What the consumer needs from a connection: settle, fetch, wait.

A transport that can do better than kombu's one message at a time offers ``open_source``; everything
else goes through ``kombu_source``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from opsq.broker.message import Delivery, Settlement
from opsq.broker.topology import QueueSpec


class QueueDepth(Struct, frozen=True):
    """How much waits in one queue.

    ready: messages waiting. unacked: handed out and not settled. oldest_age_s: seconds the oldest
    waiting message has waited. consumers: how many read it. ``None`` where the broker cannot tell.
    """

    ready: int
    unacked: int | None = None
    oldest_age_s: float | None = None
    consumers: int | None = None


class Source(Protocol):
    """A stream of deliveries for one owner thread.

    poll_s: longest time to wait without asking again. watchable: whether silence while messages
    wait means a broken connection (a source that asks the broker each time cannot miss any).
    """

    poll_s: float
    watchable: bool

    def exchange(self, settlements: Sequence[Settlement], room: int) -> list[Delivery]:
        """Settle, then return up to ``room`` deliveries without waiting; tags are the broker's own.

        Raises: BrokerBusy when nothing was done and the same call may be made again; any other
        BrokerUnavailable when the connection is lost with everything it held.
        """
        ...

    def filenos(self) -> list[int]:
        """Return the descriptors that become readable when something may have arrived."""
        ...

    def woken(self) -> None:
        """Be told that one of the descriptors was readable."""
        ...

    def keepalive(self) -> float:
        """Renew leases, send heartbeats, do chores; return seconds until the next call."""
        ...

    def limit(self, prefetch: int) -> None:
        """Let the broker hand out at most this many unsettled messages."""
        ...

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Read these queues from now on, declaring them first."""
        ...

    def pause(self, paused: bool) -> None:
        """Keep the broker from handing out more, where it does so without being asked, or undo that."""
        ...

    def probe(self) -> bool:
        """Say whether messages wait in the queues that are read."""
        ...

    def close(self) -> None:
        """Return what is not settled and stop. Safe to call twice."""
        ...
