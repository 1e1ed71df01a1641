"""Waking a thread that waits for descriptors."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress


def sockets_give_way() -> bool:
    """Whether a greenlet library has patched sockets: flags and time-outs of the kernel's then mean nothing."""
    return socket.socket.__module__ != "socket"


def take_ready(sock: socket.socket, size: int) -> bytes:
    """Read up to ``size`` bytes that are there already. Raises: BlockingIOError when there are none."""
    if not sockets_give_way():
        return sock.recv(size, socket.MSG_DONTWAIT)
    before = sock.gettimeout()
    sock.settimeout(0)
    try:
        return sock.recv(size)
    finally:
        sock.settimeout(before)


def readable(descriptors: Iterable[int], timeout_s: float) -> set[int]:
    """Wait until one of ``descriptors`` is readable, at most ``timeout_s`` seconds; return those that are."""
    if not hasattr(select, "poll"):  # eventlet takes it away, and its select has no limit on descriptors
        return set(select.select(list(descriptors), (), (), timeout_s)[0])
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(timeout_s * 1000)}


class Waker:
    """Becomes readable when ``wake`` is called, until ``drain``. Thread: ``wake`` from any."""

    def __init__(self) -> None:
        self._closed = True
        self._counts = sys.platform == "linux"
        if self._counts:
            self._read = self._write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)
        self._closed = False

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._read

    def wake(self) -> None:
        """Make it readable. Never blocks; a full pipe is readable already."""
        if not self._closed:
            with suppress(BlockingIOError):
                if self._counts:
                    # Not os.write: eventlet's lets another greenlet run first, and refuses two that write at once.
                    os.eventfd_write(self._write, 1)
                else:
                    os.write(self._write, b"!")

    def drain(self) -> None:
        """Make it unreadable again."""
        with suppress(BlockingIOError):
            if self._counts:
                os.eventfd_read(self._read)
            else:
                os.read(self._read, 4096)

    def close(self) -> None:
        """Give the descriptors back. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for descriptor in {self._read, self._write}:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()
