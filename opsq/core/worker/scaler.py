"""The scaler: looks at the worker's load, has the policy decide, and gives the pool that size.

One thread, one decision a tick, one more at once when a burst comes. It never ends a task: the pool takes slots away
as they become free. What decides is handed in, so that the worker knows no policy.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from opsq.autoscale.decision import Decision, History
from opsq.autoscale.observation import Observation
from opsq.autoscale.policy import is_burst
from opsq.autoscale.presets import Limits
from opsq.autoscale.record import held_back, record_of
from opsq.clock import Clock
from opsq.core.pools.base import Pool
from opsq.core.worker.scaler_sight import Sight
from opsq.errors import UsageError

log = logging.getLogger(__name__)

Decide = Callable[[Observation, History, Limits], Decision]

#: How often it looks whether a burst has come.
LOOK_S: Final = 0.25
#: One decision that changed nothing is told so often, one that a guard held back no more often than the second.
TELL_S: Final = 60.0
HELD_BACK_S: Final = 10.0
#: Start-up times that are remembered, and the share of them that planning is on the safe side of.
STARTS: Final = 20
SAFE: Final = 0.9


class Scaler:
    """Keeps the pool at the size that the policy decides. Thread: its own; ``set_bounds`` and ``stop`` from any.

    queues: names of those that are consumed. resize: gives the pool a size. tell: takes the record of a decision.
    busy_elsewhere: true while the worker winds down, when nothing is changed any more. dry: decide and tell, change
    nothing; the size that would be there is then the policy's own.
    """

    def __init__(
        self,
        name: str,
        sight: Sight,
        pool: Pool,
        decide: Decide,
        limits: Limits,
        queues: Callable[[], list[str]],
        resize: Callable[[int], None],
        tell: Callable[[dict[str, Any]], None],
        clock: Clock,
        *,
        ask: Callable[[], None] = lambda: None,
        winding_down: Callable[[], bool] = lambda: False,
        dry: bool = False,
    ) -> None:
        self.name, self.limits, self.dry = name, limits, dry
        self.history = History()
        self.last: Decision | None = None
        self._sight, self._pool, self._decide, self._queues = sight, pool, decide, queues
        self._resize, self._tell, self._clock, self._ask = resize, tell, clock, ask
        self._winding_down = winding_down
        self._lock = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._would_have = pool.slots
        self._decided_at = self._told_at = -math.inf
        self._told: tuple[str, str | None] | None = None
        self._starts: deque[float] = deque(maxlen=STARTS)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._main, name="opsq-scaler", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Change nothing any more. Harmless twice or unstarted."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, timeout_s))

    def set_bounds(self, most: int | None, fewest: int | None) -> tuple[int, int]:
        """Keep within these from now on, None for as it is; both as they are then. Raises: UsageError."""
        with self._lock:
            top = self.limits.most if most is None else most
            low = self.limits.fewest if fewest is None else fewest
            if top < 1 or low < 0 or low > top:
                raise UsageError(f"expected 0 ≤ min ≤ max and max ≥ 1, got min={low} max={top}")
            self.limits = msgspec.structs.replace(self.limits, most=top, fewest=low)
        self._decided_at = -math.inf
        self._wake.set()
        return top, low

    def facts(self) -> dict[str, int]:
        """What ``inspect stats`` says, with Celery's keys. Thread: any."""
        held = self._sight.waits_here() + len(self._pool.running())
        return {"max": self.limits.most, "min": self.limits.fewest, "current": self._pool.slots, "qty": held}

    def step(self) -> Decision:
        """Look, decide, act, tell. Thread: the scaler's, or a test's that has not started it."""
        now = self._decided_at = self._clock.monotonic()
        have = self._would_have if self.dry else self._pool.slots
        seen = self._sight.look(now, self._clock.now(), self._queues(), have)
        with self._lock:
            limits = self._with_startup()
        decision = self._decide(seen, self.history, limits)
        self.history, self.last = decision.history, decision
        if not self.dry and decision.target != have:
            self._resize(max(1, decision.target))
        self._would_have = decision.target
        self._report(seen, decision, limits)
        return decision

    def _with_startup(self) -> Limits:
        """The limits with the start-up time that was measured here, once it was."""
        for took_s in self._pool_starts():
            self._starts.append(took_s)
        if not self._starts:
            return self.limits
        ordered = sorted(self._starts)
        return msgspec.structs.replace(self.limits, startup_s=ordered[math.ceil(SAFE * len(ordered)) - 1])

    def _pool_starts(self) -> list[float]:
        found = self._pool.stats().get("start-seconds")
        return [one for one in found if isinstance(one, float)] if isinstance(found, list) else []

    def _report(self, seen: Observation, decision: Decision, limits: Limits) -> None:
        changed, kept, at = decision.target != decision.have, held_back(decision), decision.at
        if changed and not self.dry:
            # In the message itself: of several changes, each is to be seen in the log.
            log.info("slots %s", decision.text)
        waited_s = at - self._told_at
        if changed or waited_s >= TELL_S or (kept != self._told and waited_s >= HELD_BACK_S):
            self._told_at, self._told = at, kept
            applied = self._pool.slots
            self._tell(record_of(self.name, seen, decision, limits, applied=applied, dry=self.dry))

    def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._winding_down() and self._due():
                    self.step()
            except UsageError as error:
                log.error("this pool cannot be scaled", extra={"reason": str(error)})
                return
            except Exception:  # boundary: a bug in here may cost a decision, never the worker
                log.exception("no decision about slots could be made")
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def _due(self) -> bool:
        if self._clock.monotonic() - self._decided_at >= self.limits.tick_s:
            return True
        if self.dry or len(self._pool.running()) < self._pool.slots:
            return False
        # All slots are busy: whether much waits for them is worth a question between two ticks.
        told = self._sight.told
        if told is not None and told.at > self._decided_at:
            waits = sum(one.ready for one in told.queues.values()) + self._sight.waits_here()
            if is_burst(waits, self._pool.slots) and self._pool.slots < self.limits.most:
                return True
        self._ask()
        return False
