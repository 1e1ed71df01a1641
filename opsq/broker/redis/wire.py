"""One socket to Redis and the RESP3 protocol on it, as little as the hot path needs.

redis-py makes the connection (address, TLS, login, database); from then on its socket is read and
written here. A batch is one reply, read with as few system calls as there can be: each call gives
the interpreter lock away, and with busy task threads it comes back only milliseconds later.
Source: Redis serialization protocol 3 (RESP3).
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis.exceptions

from opsq.broker.redis.faults import connection_lost, explained, of_reply
from opsq.broker.wake import sockets_give_way

_CHUNK = 256 * 1024
_SO_RCVBUFFORCE = 33

Word = bytes | str | int | float


class ReplyError(Exception):
    """An error Redis sent as a reply; the connection goes on. ``str`` is the server's text."""

    @property
    def code(self) -> str:
        """The first word, such as ``NOSCRIPT``."""
        return str(self).partition(" ")[0]


def pack(*words: Word) -> bytes:
    """Write one command."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Wire:
    """A connection that speaks RESP3. Thread: one at a time.

    connection: an unconnected ``redis.Connection``. timeout_s: longest silence while a reply is due.
    name: the broker's URL, fit for messages. Raises, from every method that talks: BrokerUnavailable
    when the connection is lost; it is of no use then.
    """

    def __init__(self, connection: Any, timeout_s: float, name: str) -> None:
        self._connection = connection
        self._timeout_s = self._most_s = timeout_s
        self.name = name
        self._buffer = bytearray()
        self._at = 0
        self.broken = False
        self.pushes: deque[list[Any]] = deque()
        try:
            connection.connect()
            self._socket: socket.socket = connection._sock
            self._kernel_timeouts = not isinstance(self._socket, ssl.SSLSocket) and not sockets_give_way()
            self._set_timeouts()
            self.call("HELLO", 3)
        except redis.exceptions.RedisError as exc:
            raise explained(exc, name) from exc
        except BaseException:
            self.close()
            raise

    def _set_timeouts(self) -> None:
        if not self._kernel_timeouts:
            self._socket.settimeout(self._timeout_s)
            return
        # Timed by the kernel, a read is one system call; timed by Python it is a poll and a read.
        self._socket.settimeout(None)
        whole = int(self._timeout_s)
        limit = struct.pack("ll", whole, int((self._timeout_s - whole) * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def limit_silence(self, timeout_s: float) -> None:
        """Wait no longer than this for each piece of a reply, nor than at first. Raises: BrokerUnavailable."""
        timeout_s = min(timeout_s, self._most_s)
        if timeout_s == self._timeout_s:
            return
        self._timeout_s = timeout_s
        try:
            self._set_timeouts()
        except OSError as exc:
            raise self._lost(exc) from exc

    def widen(self, size: int) -> None:
        """Let the kernel keep up to ``size`` received bytes for us, as far as the system allows."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        if sys.platform == "linux":
            # Beyond the system's usual most, for those who may: a right that few processes have.
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)

    def fileno(self) -> int:
        """Return the descriptor that is readable when the server has said something."""
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether bytes were read from the socket and not looked at yet."""
        waiting = self._at < len(self._buffer)
        return waiting or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0)

    def send(self, data: bytes) -> None:
        """Write packed commands."""
        try:
            self._socket.sendall(data)
        except OSError as exc:
            raise self._lost(exc) from exc

    def call(self, *words: Word) -> Any:
        """Send one command and return its reply. Raises: BrokerUnavailable also for an error reply."""
        return self._good(self.ask(*words))

    def ask(self, *words: Word) -> Any:
        """Send one command and return its reply, a ``ReplyError`` too."""
        self.send(pack(*words))
        return self.reply()

    def calls(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """Send commands together and return their replies. Raises: as ``call``."""
        self.send(b"".join(pack(*words) for words in commands))
        replies = [self.reply() for _ in commands]
        return [self._good(reply) for reply in replies]

    def replies(self, count: int) -> list[Any]:
        """Read the next replies; several numbers that came together are read together."""
        if self._at == len(self._buffer):
            self._fill()
            lines = self._buffer.split(b"\r\n", count)
            if len(lines) == count + 1 and not lines[count] and all(line[:1] == b":" for line in lines[:count]):
                self._buffer = bytearray()
                self._at = 0
                return [int(line[1:]) for line in lines[:count]]
        return [self.reply() for _ in range(count)]

    def _good(self, reply: Any) -> Any:
        if isinstance(reply, ReplyError):
            raise of_reply(reply, self.name) from reply
        return reply

    def reply(self) -> Any:
        """Read the next reply, a ``ReplyError`` too; what the server pushes meanwhile is kept."""
        while True:
            pushed, value = self._value()
            if not pushed:
                self._compact()
                return value
            self.pushes.append(value)

    def read_pushes(self, most: int) -> None:
        """Read what the server has pushed, without waiting, until ``most`` are in ``pushes``."""
        if not self.pending and not self._readable():
            return
        while len(self.pushes) < most:
            pushed, value = self._value()
            if not pushed:
                raise self._lost(OSError(f"a reply came that nobody asked for: {value!r:.80}"))
            self.pushes.append(value)
            if not self.pending:
                break
        self._compact()

    def _readable(self) -> bool:
        """Read what is there without waiting; say whether that was anything."""
        if not self._kernel_timeouts:
            return self._readable_tls()
        try:
            data = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as exc:
            raise self._lost(exc) from exc
        self._add(data)
        return True

    def _readable_tls(self) -> bool:
        self._socket.settimeout(0)
        try:
            self._add(self._socket.recv(_CHUNK))
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError as exc:
            raise self._lost(exc) from exc
        finally:
            self._socket.settimeout(self._timeout_s)
        return True

    # ---- the protocol

    def _value(self) -> tuple[bool, Any]:
        """Read one value; says whether it was pushed."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$" or kind == b"=":
            size = int(rest)
            return False, None if size < 0 else self._bulk(size)
        if kind == b":":
            return False, int(rest)
        if kind in (b"*", b"~", b">"):
            size = int(rest)
            return kind == b">", None if size < 0 else [self._value()[1] for _ in range(size)]
        if kind == b"%":
            pairs = [(self._value()[1], self._value()[1]) for _ in range(int(rest))]
            return False, dict(pairs)
        return False, self._simple(kind, rest)

    def _simple(self, kind: bytes, rest: bytes) -> Any:
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b"!":
            return ReplyError(self._bulk(int(rest)).decode(errors="replace"))
        if kind == b"_":
            return None
        if kind == b",":
            return float(rest)
        if kind == b"#":
            return rest == b"t"
        raise self._lost(OSError(f"this is not RESP3: {kind + rest!r:.80}"))

    def _line(self) -> bytes:
        start = self._at
        while (end := self._buffer.find(b"\r\n", start)) < 0:
            start = max(self._at, len(self._buffer) - 1)
            self._fill()
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    def _bulk(self, size: int) -> bytes:
        end = self._at + size
        while len(self._buffer) < end + 2:
            self._fill(end + 2 - len(self._buffer))
        data = bytes(memoryview(self._buffer)[self._at : end])
        self._at = end + 2
        return data

    def _fill(self, missing: int = 0) -> None:
        """Read some more; at least ``missing`` bytes where the socket can wait for so many."""
        try:
            if missing and self._kernel_timeouts:
                data = self._socket.recv(missing, socket.MSG_WAITALL)
            else:
                data = self._socket.recv(_CHUNK)
        except OSError as exc:
            raise self._lost(exc) from exc
        self._add(data)

    def _add(self, data: bytes) -> None:
        if not data:
            raise self._lost(ConnectionResetError("the server closed the connection"))
        self._buffer += data

    def _compact(self) -> None:
        if self._at == len(self._buffer):
            self._buffer = bytearray()
            self._at = 0
        elif self._at > _CHUNK:
            del self._buffer[: self._at]
            self._at = 0

    def _lost(self, cause: OSError) -> Exception:
        self.broken = True
        return connection_lost(cause, self.name)

    def close(self) -> None:
        """Close the socket without a goodbye. Safe to call twice."""
        self.broken = True
        self._connection.disconnect()
