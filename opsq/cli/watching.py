"""What ``opsq events`` and ``opsq top`` share: the stream of events of a broker, one batch after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click

from opsq.broker.connection import open_connection
from opsq.core.app import Opsq
from opsq.events.stream import Stream, connector
from opsq.masking import mask
from opsq.settings import Settings

CONNECT_S = 10.0
_LOOK_S = 0.02


@contextmanager
def stream_of(app: Opsq) -> Iterator[Stream]:
    """The events of the app's broker, from when the block begins. Prints the broker to standard error.

    Raises: BrokerUnavailable when it cannot be reached within ten seconds.
    """
    settings: Settings = app.settings
    broker = settings.resolved_broker_url("read")
    click.echo(f"broker: {mask(broker if isinstance(broker, str) else ';'.join(broker))}", err=True)
    probe = open_connection(settings, purpose="read")
    probe.connect()  # here, so that a broker that is not there is said at once
    probe.close()
    stream = Stream(
        connector(
            partial(open_connection, settings, purpose="read"),
            exchange=settings.event_exchange,
            prefix=settings.event_queue_prefix,
            message_ttl_s=settings.event_queue_ttl,
            expires_s=settings.event_queue_expires,
        )
    )
    stream.start()
    try:
        deadline = time.monotonic() + CONNECT_S
        while not stream.status().connected and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        yield stream
    finally:
        stream.stop(2.0)
