"""Time limits for coroutines: a soft one that is raised inside, a hard one that cancels.

asyncio can only throw ``CancelledError`` into a task. ``limited`` stands between the task and the
coroutine, and turns the cancellation it asked for itself into ``SoftTimeLimitExceeded`` at the very
``await`` where the coroutine waits. Cancellation by anybody else passes through untouched.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from opsq.errors import SoftTimeLimitExceeded, TimeLimitExceeded

T = TypeVar("T")

INSIST_S = 1.0
"""A coroutine that swallows its cancellation is cancelled again after this many seconds."""


class _Guard:
    """The two timers over one coroutine. Thread: that of the event loop."""

    def __init__(self, task: asyncio.Task[Any], soft_s: float | None, hard_s: float | None) -> None:
        self._task = task
        self._soft_s = soft_s
        self._hard_s = hard_s
        self._soft_due = False
        self._hard_due = 0
        self.hard_passed = False
        self._timers: list[asyncio.TimerHandle] = []
        loop = task.get_loop()
        if soft_s is not None:
            self._timers.append(loop.call_later(soft_s, self._soft))
        if hard_s is not None:
            self._timers.append(loop.call_later(hard_s, self._hard))

    def _soft(self) -> None:
        self._soft_due = True
        self._task.cancel()

    def _hard(self) -> None:
        self.hard_passed = True
        self._hard_due += 1
        self._timers.append(self._task.get_loop().call_later(INSIST_S, self._hard))
        self._task.cancel()

    def translate(self, cancelled: asyncio.CancelledError) -> BaseException:
        """Say what the coroutine is to see in place of ``cancelled``."""
        if self._hard_due:
            self._hard_due -= 1
            self._task.uncancel()
            return cancelled
        if self._soft_due:
            self._soft_due = False
            self._task.uncancel()
            return SoftTimeLimitExceeded(self._soft_s)
        return cancelled

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._timers:
            timer.cancel()


@types.coroutine
def _drive(coroutine: Coroutine[Any, Any, T], guard: _Guard) -> Generator[Any, None, T]:
    raised: BaseException | None = None
    while True:
        try:
            awaited = coroutine.send(None) if raised is None else coroutine.throw(raised)
        except StopIteration as stop:
            value: T = stop.value
            return value
        try:
            yield awaited
            raised = None
        except GeneratorExit:
            coroutine.close()
            raise
        except asyncio.CancelledError as cancelled:
            raised = guard.translate(cancelled)


async def limited(coroutine: Coroutine[Any, Any, T], soft_s: float | None, hard_s: float | None) -> T:
    """Await ``coroutine`` under two limits in seconds, None for none.

    Raises: SoftTimeLimitExceeded inside the coroutine, which may handle it; TimeLimitExceeded when
    the hard limit passed, whatever the coroutine made of its cancellation.
    """
    if soft_s is None and hard_s is None:
        return await coroutine
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("limited() needs a running asyncio task")
    guard = _Guard(task, soft_s, hard_s)
    try:
        result = await _drive(coroutine, guard)
    except BaseException as exc:
        if guard.hard_passed:
            raise TimeLimitExceeded(hard_s) from exc
        raise
    finally:
        guard.close()
    if guard.hard_passed:
        raise TimeLimitExceeded(hard_s)
    return result
