"""The user's own measure: a function of theirs, or a Prometheus query, read beside everything else.

A reading that does not come makes the last one older; what is too old holds the size (see ``policy.decide``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Final, cast

from opsq import plugins
from opsq.autoscale.observation import Gauge
from opsq.chore import Chore
from opsq.clock import Clock, SystemClock
from opsq.errors import ConfigError, Fault
from opsq.settings import Settings

log = logging.getLogger(__name__)

#: A server that has not answered by then is asked again.
ANSWER_S: Final = 2.0


class GaugeReader:
    """Reads a measure every ``every_s`` seconds in a thread of its own. Thread: any.

    ask: returns the measure; what it raises, and what is no number from 0, counts as no reading.
    """

    def __init__(self, ask: Callable[[], float], per_slot: float, every_s: float, clock: Clock | None = None) -> None:
        self._ask, self._per_slot = ask, per_slot
        self._clock = clock or SystemClock()
        self._last: tuple[float, float] | None = None
        self._began = self._clock.monotonic()
        self._chore = Chore("opsq-gauge", self.step, every_s=every_s, failing="the own measure could not be read")

    def start(self) -> None:
        """Start reading; a second call does nothing."""
        self._chore.start()

    def stop(self, timeout_s: float) -> bool:
        """Read no more; false when a reading still goes on."""
        return self._chore.stop(timeout_s)

    def step(self) -> None:
        """Read once. Raises: whatever the measure raises, ValueError for what is no number from 0."""
        value = float(self._ask())
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"expected a number from 0, got {value!r}")
        self._last = (value, self._clock.monotonic())

    def read(self) -> Gauge:
        """The last reading with its age; without a value while there is none."""
        now = self._clock.monotonic()
        if self._last is None:
            return Gauge(value=None, per_slot=self._per_slot, age_s=now - self._began)
        value, at = self._last
        return Gauge(value=value, per_slot=self._per_slot, age_s=now - at)


def gauge_reader(settings: Settings) -> GaugeReader | None:
    """The reader of the setting ``autoscale_signal``, None without one. Raises: ConfigError."""
    signal = settings.autoscale_signal
    if not signal:
        return None
    ask: Callable[[], float]
    if signal.startswith(("http://", "https://")):
        ask = _Prometheus(signal)
    else:
        found = plugins.resolve(signal, origin="autoscale_signal")
        if not callable(found):
            raise ConfigError([Fault(f"{signal} cannot be called", "autoscale_signal", "name a function")])
        ask = cast("Callable[[], float]", found)
    return GaugeReader(ask, settings.autoscale_signal_per_slot, settings.autoscale_interval)


class _Prometheus:
    """Asks a Prometheus instant query. Source: its HTTP API, ``/api/v1/query``."""

    def __init__(self, url: str) -> None:
        httpx: Any = plugins.require("httpx", "a Prometheus query as autoscale_signal")
        self._url = url
        self._client = httpx.Client(timeout=ANSWER_S)

    def __call__(self) -> float:
        answer = self._client.get(self._url)
        answer.raise_for_status()
        return sample_of(answer.json())


def sample_of(answer: Any) -> float:
    """The one number of a query's answer. Raises: ValueError saying what was answered instead."""
    data = answer.get("data") if isinstance(answer, dict) else None
    kind, found = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind == "scalar" and isinstance(found, list) and len(found) == 2:
        return float(found[1])
    if kind == "vector" and isinstance(found, list) and len(found) == 1:
        return float(found[0]["value"][1])
    many = len(found) if isinstance(found, list) else "no"
    raise ValueError(f"expected a query whose answer is one number, got {many} series of type {kind!r}")
