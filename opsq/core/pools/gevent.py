"""Slots that are gevent greenlets; what they do is in ``greenlets.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from opsq import plugins
from opsq.core.pools.base import PoolConfig
from opsq.core.pools.greenlets import GreenPool

gevent = plugins.require("gevent", "the gevent pool")


class GeventHub:
    """gevent's event loop. Thread: the patched one."""

    library = "gevent"

    def spawn(self, work: Callable[[], None]) -> Any:
        """Start a greenlet at the next turn of the loop."""
        return gevent.spawn(work)

    def later(self, seconds: float, work: Callable[[], Any]) -> Callable[[], None]:
        """Call ``work`` from the loop."""
        timer = gevent.get_hub().loop.timer(max(seconds, 0.0))
        timer.start(work)

        def call_off() -> None:
            timer.stop()
            timer.close()

        return call_off


class GeventPool(GreenPool):
    """Runs each job in a gevent greenlet. Thread: the patched one."""

    name: ClassVar[str] = "gevent"

    def __init__(self, config: PoolConfig) -> None:
        super().__init__(config, GeventHub())
