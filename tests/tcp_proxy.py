"""A TCP proxy whose connections can be cut, silenced or refused: the faults of a network.

A *hole* swallows bytes of the connections that exist and tells nobody, which is what a crashed host
or a forgotten NAT entry looks like; connections made later pass.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_RESET = struct.pack("ii", 1, 0)  # linger for zero seconds: close by RST


class _Pair:
    """One client and its connection to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self.silent = False

    def forward(self) -> None:
        """Carry bytes both ways until one end closes."""
        client, server = self.ends
        other = {client: server, server: client}
        with contextlib.suppress(OSError, ValueError):
            while True:
                ready, _, _ = select.select(self.ends, (), ())
                for end in ready:
                    data = end.recv(65_536)
                    if not data:
                        return
                    if not self.silent:
                        other[end].sendall(data)

    def close(self, *, reset: bool = False) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR) if not reset else None
            end.close()


class TcpProxy:
    """Listens on ``port`` of 127.0.0.1 and forwards to ``target``. Thread: any."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._refusing = False
        self.accepted = 0
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
        self.accepted += 1
        pair = _Pair(client, server)
        self._pairs.append(pair)
        threading.Thread(target=self._carry, args=(pair,), daemon=True).start()

    def _carry(self, pair: _Pair) -> None:
        pair.forward()
        if not pair.silent:  # in a hole not even the end of the connection is seen
            pair.close()

    def hole(self) -> None:
        """Swallow everything on the connections there are; later ones pass."""
        for pair in self._pairs:
            pair.silent = True

    def reset(self) -> None:
        """Cut the connections there are, without a goodbye."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.close(reset=True)

    def refuse(self, refusing: bool = True) -> None:
        """Turn new connections away, or let them in again."""
        self._refusing = refusing

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
