"""Slots that are eventlet's green threads; what they do is in ``greenlets.py``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from opsq import plugins
from opsq.core.pools.base import PoolConfig
from opsq.core.pools.greenlets import GreenPool

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its authors advise against it at each import; whoever is here has chosen it
    eventlet = plugins.require("eventlet", "the eventlet pool")
    hubs = plugins.require("eventlet.hubs", "the eventlet pool")


class EventletHub:
    """eventlet's event loop. Thread: the patched one."""

    library = "eventlet"

    def spawn(self, work: Callable[[], None]) -> Any:
        """Start a greenlet at the next turn of the loop."""
        return eventlet.spawn(work)

    def later(self, seconds: float, work: Callable[[], Any]) -> Callable[[], None]:
        """Call ``work`` from the loop."""
        timer = hubs.get_hub().schedule_call_global(max(seconds, 0.0), work)

        def call_off() -> None:
            timer.cancel()

        return call_off


class EventletPool(GreenPool):
    """Runs each job in an eventlet green thread. Thread: the patched one."""

    name: ClassVar[str] = "eventlet"

    def __init__(self, config: PoolConfig) -> None:
        super().__init__(config, EventletHub())
