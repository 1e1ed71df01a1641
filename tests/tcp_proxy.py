"""A TCP proxy whose connections can be cut, silenced, slowed or refused: the faults of a network.

A *hole* swallows bytes of the connections that exist and tells nobody, which is what a crashed host
or a forgotten NAT entry looks like; connections made later pass.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_RESET = struct.pack("ii", 1, 0)  # linger for zero seconds: close by RST
_PIECE = 65_536
_SLICE_S = 0.02


class _Line:
    """Bytes on their way in one direction, each piece with the time at which it may arrive."""

    def __init__(self) -> None:
        self.pieces: deque[tuple[float, bytes]] = deque()
        self.free_at = 0.0

    def put(self, data: bytes, delay_s: float, bytes_per_s: float | None) -> None:
        now = time.monotonic()
        if bytes_per_s is None:
            self.pieces.append((now + delay_s, data))
            return
        size = max(int(bytes_per_s * _SLICE_S), 1)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self.free_at = max(self.free_at, now) + len(piece) / bytes_per_s
            self.pieces.append((self.free_at + delay_s, piece))

    def due(self) -> list[bytes]:
        now, found = time.monotonic(), []
        while self.pieces and self.pieces[0][0] <= now:
            found.append(self.pieces.popleft()[1])
        return found


class _Pair:
    """One client and its connection to the server."""

    def __init__(self, client: socket.socket, server: socket.socket, weather: TcpProxy) -> None:
        self.ends = (client, server)
        self.silent = False
        self.weather = weather
        self.carried = 0
        self._lines = {client: _Line(), server: _Line()}
        self._ear, self._bell = socket.socketpair()
        self._doom: str | None = None

    def carry(self) -> None:
        """Forward until the end of the connection; in a hole not even that is seen by the other side."""
        with contextlib.suppress(OSError, ValueError):
            self._forward()
        if self.silent and self._doom is None:
            self._ear.recv(1)
        self._close()

    def _forward(self) -> None:
        """Carry bytes both ways until one end closes, or as many as the proxy lets one connection carry."""
        client, server = self.ends
        other = {client: server, server: client}
        ended = False
        while not ended or self._lines[client].pieces or self._lines[server].pieces:
            # With pieces waiting no more is read than the slow line can hold: the sender feels it.
            hungry = [end for end in self.ends if not ended and len(self._lines[end].pieces) < 64]
            ready, _, _ = select.select([*hungry, self._ear], (), (), self._nap_s())
            if self._ear in ready:
                return
            for end in ready:
                data = end.recv(_PIECE)
                ended |= not data
                if data and not self.silent:
                    self._lines[end].put(data, self.weather.delay_s, self.weather.bytes_per_s)
            for end in self.ends:
                for piece in self._lines[end].due():
                    if not self._pass(other[end], piece):
                        return

    def _pass(self, end: socket.socket, piece: bytes) -> bool:
        """Send on; say whether the connection lives."""
        most = self.weather.most_bytes
        room = len(piece) if most is None else max(most - self.carried, 0)
        self.carried += len(piece)
        end.sendall(piece[:room])
        if room < len(piece):
            self._doom = "reset"
            return False
        return True

    def _nap_s(self) -> float | None:
        firsts = [line.pieces[0][0] for line in self._lines.values() if line.pieces]
        return max(min(firsts) - time.monotonic(), 0.0) if firsts else None

    def end(self, *, reset: bool = False) -> None:
        """Close it soon. Thread: any; only the one that forwards may close, a socket in use stays open."""
        self._doom = "reset" if reset else "close"
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def _close(self) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                if self._doom == "reset":
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                else:
                    end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ear.close()
        self._bell.close()


class TcpProxy:
    """Listens on ``port`` of 127.0.0.1 and forwards to ``target``.

    delay_s: how much later each byte arrives, either way. bytes_per_s: bandwidth of each direction of
    a connection; ``None`` for no bound. most_bytes: after so many, both ways together, a connection is
    reset, in the middle of whatever it carries. Thread: any.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._refusing = False
        self.accepted = 0
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.most_bytes: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._take(client)

    def _take(self, client: socket.socket) -> None:
        if self._refusing:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        pair = _Pair(client, server, self)
        self._pairs.append(pair)
        threading.Thread(target=pair.carry, daemon=True).start()

    def hole(self) -> None:
        """Swallow everything on the connections there are; later ones pass."""
        for pair in self._pairs:
            pair.silent = True

    def reset(self) -> None:
        """Cut the connections there are, without a goodbye."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.end(reset=True)

    def refuse(self, refusing: bool = True) -> None:
        """Turn new connections away, or let them in again."""
        self._refusing = refusing

    def cut(self) -> None:
        """Be a host that is down: reset what there is, refuse what comes."""
        self.refuse()
        self.reset()

    def close(self) -> None:
        """Cut everything and stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()


@contextmanager
def tcp_proxy(target: int) -> Iterator[TcpProxy]:
    """A proxy for the block."""
    proxy = TcpProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
