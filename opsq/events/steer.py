"""The monitor's talk with the workers: attach to them, and ask again for what was missed."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from opsq.broker.connection import open_connection
from opsq.broker.publisher import Publisher
from opsq.clock import SystemClock
from opsq.control.addresses import addresses_of
from opsq.control.mailer import Mailer
from opsq.events.attach import Attacher
from opsq.events.cluster import Cluster
from opsq.events.replay import Replayer
from opsq.events.sight import FleetSight
from opsq.events.store import Store
from opsq.events.stream import Stream
from opsq.settings import Settings
from opsq.wire.content import accept_set

DEADLINE_S: Final = 5.0


class Steering:
    """An attacher and a replayer with the connections they need. Thread: ``start`` and ``stop`` from any."""

    def __init__(self, settings: Settings, stream: Stream, cluster: Cluster, store: Store) -> None:
        sight, clock = FleetSight(stream, cluster, store), SystemClock()
        self._publisher = Publisher(partial(open_connection, settings, purpose="write"), deadline_s=DEADLINE_S)
        mailer = mailer_of(settings, self._publisher)
        self.attacher = Attacher(mailer, stream.insert, sight, enable=settings.monitor_enable_events)
        self.replayer = Replayer(
            mailer, cluster.sequences, lambda node: sight.hears_commands(node, clock.now()), stream.insert
        )

    def start(self) -> None:
        """Start both threads; nothing is connected yet."""
        self.attacher.start()
        self.replayer.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop both; false when one still waits for an answer. May be called twice."""
        deadline = time.monotonic() + timeout_s
        # Both are told before either is waited for: an answer may still be on its way to each.
        self.attacher.stop(0.0)
        ended = [each.stop(deadline - time.monotonic()) for each in (self.replayer, self.attacher)]
        self._publisher.close()
        return all(ended)


def mailer_of(settings: Settings, publisher: Publisher) -> Mailer:
    """Make what asks the workers of a broker; nothing is connected yet."""
    return Mailer(
        partial(open_connection, settings, purpose="read"),
        publisher.publish,
        addresses_of(settings),
        accept=accept_set(settings.accept_content),
    )
