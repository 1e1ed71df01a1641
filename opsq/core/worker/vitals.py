"""How the worker's process is doing: the figures of a heartbeat."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

import psutil

from opsq.clock import Clock

SW_IDENT = "opsq"


class Vitals:
    """Measures this process and its children. Thread: one, the emitter's.

    facts: what the worker knows about itself (slots, busy, queues …), asked for at each heartbeat.
    """

    def __init__(self, version: str, facts: Callable[[], dict[str, Any]], clock: Clock) -> None:
        self._process = psutil.Process()
        self._version = version
        self._facts = facts
        self._clock = clock
        self._cpu_s = self._cpu_time_s()
        self._at = clock.monotonic()

    def __call__(self) -> dict[str, Any]:
        """The fields of a ``worker-*`` event."""
        now, cpu_s = self._clock.monotonic(), self._cpu_time_s()
        elapsed_s, used_s = now - self._at, cpu_s - self._cpu_s
        self._at, self._cpu_s = now, cpu_s
        return {
            **self._facts(),
            "loadavg": [round(load, 2) for load in os.getloadavg()],
            "sw_ident": SW_IDENT,
            "sw_ver": self._version,
            "sw_sys": platform.system(),
            "cpu_share": round(max(0.0, used_s) / elapsed_s, 4) if elapsed_s > 0 else 0.0,
            "rss_bytes": self._rss_bytes(),
        }

    def _cpu_time_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    def _rss_bytes(self) -> int:
        return int(self._process.memory_info().rss)
