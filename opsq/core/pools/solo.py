"""One slot, one thread.

Celery's solo pool runs the task on the thread that also talks to the broker, so a long task stops
heartbeats, acks and remote control. This one has a single slot of its own; the worker stays
answerable. What "solo" promises is kept: one task at a time, always on the same thread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from opsq.core.pools.base import PoolCapabilities, PoolConfig
from opsq.core.pools.threads import ThreadsPool


class SoloPool(ThreadsPool):
    """Runs one job at a time. Thread: any."""

    name: ClassVar[str] = "solo"
    capabilities: ClassVar[PoolCapabilities] = replace(ThreadsPool.capabilities, resize=False, max_slots=1)

    def __init__(self, config: PoolConfig) -> None:
        super().__init__(replace(config, slots=1))

    def grow(self, n: int = 1) -> None:
        """Do nothing: there is one slot."""

    def shrink(self, n: int = 1) -> None:
        """Do nothing: there is one slot."""
