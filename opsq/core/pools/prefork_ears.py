"""What the pool's loop listens to: its children, its fork server, and whoever wakes it.

Thread: the loop's, except ``wake``.
"""

from __future__ import annotations

import math
import os
import select

from opsq.core.pools.prefork_slot import Slot


class Ears:
    """A set of descriptors to wait on. A muted slot is heard only when somebody looks."""

    def __init__(self) -> None:
        self.slots: dict[int, Slot] = {}
        self.muted: dict[int, Slot] = {}
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.EPOLLIN)
        self._closed = False

    def wait(self, timeout_s: float) -> list[int]:
        """Wait until something can be heard or ``timeout_s`` has passed; returns the descriptors."""
        timeout = None if timeout_s == math.inf else max(0.0, timeout_s)
        heard = [fd for fd, _ in self._poll.poll(timeout)]
        if self._bell in heard:
            os.eventfd_read(self._bell)
            heard.remove(self._bell)
        return heard

    def wake(self) -> None:
        """End a ``wait`` now. Thread: any, under the pool's lock."""
        if not self._closed:
            os.eventfd_write(self._bell, 1)

    def watch(self, fd: int) -> None:
        """Listen to something that is no slot."""
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Undo ``watch``."""
        self._poll.unregister(fd)

    def add(self, slot: Slot) -> None:
        """Listen to a child."""
        self.slots[slot.up_fd] = slot
        self._poll.register(slot.up_fd, select.EPOLLIN)

    def forget(self, slot: Slot) -> None:
        """Listen to a child no more. Harmless twice."""
        if self.slots.pop(slot.up_fd, None) is not None:
            self._poll.unregister(slot.up_fd)
        self.muted.pop(slot.up_fd, None)

    def mute(self, slot: Slot, muted: bool) -> None:
        """Stop or start to be woken by ``slot``."""
        if muted == (slot.up_fd in self.muted):
            return
        self._poll.modify(slot.up_fd, 0 if muted else select.EPOLLIN)
        if muted:
            self.muted[slot.up_fd] = slot
        else:
            del self.muted[slot.up_fd]

    def close(self) -> None:
        """Give the descriptors back. Thread: the loop's, under the pool's lock."""
        if not self._closed:
            self._closed = True
            self._poll.close()
            os.close(self._bell)
