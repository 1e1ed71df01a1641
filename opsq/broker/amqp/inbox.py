"""Three frames make a message: putting them together on one channel."""

from __future__ import annotations

from collections.abc import Callable

from opsq.broker.amqp.frames import HEADER, body_size

OnMessage = Callable[[bytes, bytes, bytes], None]


class Assembler:
    """Collects method, header and body frames; calls ``on_message(method, header, body)`` when whole.

    Source: AMQP 0-9-1 section 4.2.6: frames of one content are never mixed with others of its channel.
    """

    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        self._method = b""
        self._header = b""
        self._chunks: list[bytes] = []
        self._missing = 0

    def begin(self, method: bytes) -> None:
        """Start with the method frame that announces content."""
        self._method = method

    def add(self, kind: int, payload: bytes) -> bool:
        """Take a header or body frame; say whether one was expected."""
        if not self._method:
            return False
        if kind == HEADER:
            self._header = payload
            self._missing = body_size(payload)
            if self._missing:
                return True
            body = b""
        else:
            self._missing -= len(payload)
            if self._missing > 0 or self._chunks:
                self._chunks.append(payload)
            if self._missing > 0:
                return True
            body = b"".join(self._chunks) if self._chunks else payload
            self._chunks = []
        method, self._method = self._method, b""
        self._on_message(method, self._header, body)
        return True
