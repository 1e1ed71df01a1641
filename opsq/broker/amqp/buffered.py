"""Sockets that read many frames at once.

py-amqp asks the kernel three times for each frame, and a message is three frames; here one call
brings up to 256 kB, cut into frames that wait until somebody takes them.
"""

from __future__ import annotations

import errno
import ssl
import time
from collections import deque
from struct import Struct
from typing import Any

from amqp import transport as _amqp_transport
from amqp.exceptions import UnexpectedFrame

from opsq.broker.wake import take_ready

RECEIVE_BYTES = 262_144
_HEADER = Struct(">BHI").unpack_from
_HEADER_BYTES = 7
_RECORDS_AT_ONCE = 16
_AGAIN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})

Frame = tuple[int, int, bytes]
_Tcp: Any = _amqp_transport.TCPTransport  # untyped
_Tls: Any = _amqp_transport.SSLTransport


class Buffered:
    """The reading and writing half of a socket. ``frames`` are read and not yet taken; times are
    monotonic seconds. Thread: one at a time.
    """

    sock: Any
    connected: bool

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.frames: deque[Frame] = deque()
        self.received_at = self.sent_at = time.monotonic()
        self._rest = b""

    def receive(self) -> None:
        """Wait for bytes as long as the socket's time-out says, and cut them into frames.

        Raises: TimeoutError, or any other OSError when the connection is gone.
        """
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except OSError as exc:
            if exc.errno in _AGAIN:  # the socket's own receive time-out
                raise TimeoutError("the broker sent nothing in time") from exc
            raise
        self._got(data)

    def receive_ready(self) -> bool:
        """Take what has arrived, without waiting; say whether more may be there."""
        try:
            data = take_ready(self.sock, RECEIVE_BYTES)
        except BlockingIOError:
            return False
        self._got(data)
        return len(data) == RECEIVE_BYTES

    def _got(self, data: bytes) -> None:
        if not data:
            self.connected = False
            raise ConnectionResetError("the broker closed the connection")
        self.received_at = time.monotonic()
        self._rest = self._cut(self._rest + data if self._rest else data)

    def _cut(self, data: bytes) -> bytes:
        """Add every whole frame to ``frames``; return what is left."""
        at, size, add = 0, len(data), self.frames.append
        while size - at >= _HEADER_BYTES:
            kind, channel, length = _HEADER(data, at)
            end = at + _HEADER_BYTES + length
            if end >= size:
                break
            if data[end] != 0xCE:
                raise UnexpectedFrame(f"a frame ends with {data[end]:#x} in place of 0xce")
            add((kind, channel, data[at + _HEADER_BYTES : end]))
            at = end + 1
        return data[at:] if at else data

    def read_frame(self, unpack: Any = None) -> Frame:
        """Return the next frame, waiting as long as the socket's time-out says."""
        while not self.frames:
            self.receive()
        return self.frames.popleft()

    def write(self, data: bytes | memoryview) -> None:
        """Send everything. Raises: OSError; the connection is of no use then, half a frame may be out."""
        self.sent_at = time.monotonic()
        try:
            self.sock.sendall(data)
        except OSError:
            self.connected = False
            raise

    def _read(self, n: int, initial: bool = False) -> bytes:
        raise NotImplementedError("frames are read whole")


class BufferedTcp(Buffered, _Tcp):  # type: ignore[misc]  # Any
    """Over TCP."""


class BufferedTls(Buffered, _Tls):  # type: ignore[misc]  # Any
    """Over TLS."""

    def _setup_transport(self) -> None:
        super()._setup_transport()
        self.sock.settimeout(self.read_timeout)  # the handshake had the time-out of connecting

    def _shutdown_transport(self) -> None:
        """Say no goodbye in TLS: the peer may never answer, and AMQP has said its own."""

    def receive_ready(self) -> bool:
        """Take what has arrived; OpenSSL gives one record of 16 kB at a time."""
        limit = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            for _ in range(_RECORDS_AT_ONCE):
                self._got(self.sock.recv(RECEIVE_BYTES))
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        finally:
            self.sock.settimeout(limit)
        return True
