"""What other threads leave for the owner, and the owner's sleep."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from opsq.broker.message import Settlement
from opsq.broker.wake import Waker, readable


class Mailbox:
    """Settlements and calls on their way to one owner thread.

    A thread that leaves something writes to the owner's descriptor only when the owner sleeps:
    a system call per finished task would be a good part of what a task costs.
    Thread: ``post``, ``call`` and ``wake`` from any; the rest from the owner.
    """

    def __init__(self) -> None:
        self._settlements: deque[Settlement] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._waker = Waker()
        # Number of settlements at which the sleeping owner is woken; 0 while it is awake.
        self._wake_at = 0

    def __len__(self) -> int:
        return len(self._settlements)

    def post(self, items: Sequence[Settlement]) -> None:
        """Leave settlements."""
        self._settlements.extend(items)
        if 0 < self._wake_at <= len(self._settlements):
            self._wake_at = 0
            self._waker.wake()

    def call(self, call: Callable[[], None]) -> None:
        """Leave a call."""
        self._calls.append(call)
        self._waker.wake()

    def wake(self) -> None:
        """Wake the owner without leaving anything."""
        self._waker.wake()

    def take(self) -> list[Settlement]:
        """Return the settlements that are there now."""
        settlements = self._settlements
        return [settlements.popleft() for _ in range(len(settlements))]

    def next_call(self) -> Callable[[], None] | None:
        """Return the oldest call, or ``None``."""
        return self._calls.popleft() if self._calls else None

    def wait(
        self, descriptors: Sequence[int], timeout_s: float, settlements: int, stopping: Callable[[], bool]
    ) -> bool:
        """Sleep until a descriptor is readable, that many settlements are there, or a call; at most
        ``timeout_s``. Say whether one of ``descriptors`` was readable.
        """
        self._wake_at = settlements
        # Looked at after the mark is set: whoever came before it did not wake us.
        if len(self._settlements) >= settlements or self._calls or stopping():
            self._wake_at = 0
            return False
        own = self._waker.fileno()
        ready = readable((own, *descriptors), max(timeout_s, 0.0))
        self._wake_at = 0
        if own in ready:
            self._waker.drain()
        return bool(ready - {own})
