"""Ports for servers that a test starts, and stops and starts again."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket

#: Below those that systems give to outgoing connections: one of those could take the port of a server that is
#: not up yet or again, and a probe of such a port could even reach itself.
_PORTS = range(20_000, 32_000)
#: Begins elsewhere in each process, so that runs side by side do not meet.
_numbers = itertools.count(random.SystemRandom().randrange(len(_PORTS)))


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses now and this function did not return lately. Thread: any."""
    while True:
        port = _PORTS[next(_numbers) % len(_PORTS)]
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
