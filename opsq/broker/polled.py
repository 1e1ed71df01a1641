"""What sources have in common whose broker tells nobody of arrivals: they ask, and more seldom while nothing comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from kombu.utils import json as _kombu_json

from opsq.broker.kombu_source import RawMessage, declare_queue, from_virtual
from opsq.broker.message import Delivery, OutMessage
from opsq.broker.topology import QueueSpec
from opsq.errors import UsageError

POLL_FIRST_S: Final = 0.02
POLL_MAX_S: Final = 0.25
_SLOWER: Final = 1.5
_dumps: Any = _kombu_json.dumps


def read_envelope(channel: Any, queue: str, text: str, decode: Callable[[str], Any] = str) -> Delivery:
    """The delivery in kombu's envelope; of something else one that intake refuses, with all there is to see.

    decode: undoes what the transport does to an envelope.
    """
    try:
        delivery = from_virtual(RawMessage(json.loads(decode(text)), channel=channel), queue)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        delivery = Delivery(text.encode(), None, None, {}, {}, "", queue, 0)
    delivery.queue = queue
    return delivery


def write_envelope(channel: Any, message: OutMessage) -> str:
    """A message in kombu's envelope. Raises: UsageError when headers or properties cannot be written as JSON."""
    properties = dict(message.properties)
    envelope = channel.prepare_message(
        message.body,
        priority=properties.pop("priority", None),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=dict(message.headers),
        properties=properties,
    )
    channel._inplace_augment_message(envelope, message.exchange, message.routing_key)
    try:
        return str(_dumps(envelope))
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"message for {message.routing_key!r}: headers and properties must be JSON, {exc}") from exc


class PolledSource:
    """The half of a ``Source`` that only asks. channel: of kombu, closed with the source. Thread: the owner's."""

    watchable = False

    def __init__(self, channel: Any, queues: Sequence[QueueSpec]) -> None:
        self._channel = channel
        self._queues: list[str] = []
        self._private: list[str] = []
        self._closed = False
        self.poll_s = POLL_FIRST_S
        self.set_queues(queues)

    def ask_again(self, *, soon: bool) -> None:
        """Poll soon, because there is work, or more seldom than up to now."""
        self.poll_s = POLL_FIRST_S if soon else min(self.poll_s * _SLOWER, POLL_MAX_S)

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Declare and read these queues."""
        for spec in queues:
            if spec.name not in self._queues:
                declare_queue(self._channel, spec)
        self._queues = [spec.name for spec in queues]
        self._private = [spec.name for spec in queues if spec.auto_delete or spec.exclusive]

    def filenos(self) -> list[int]:
        """Return nothing: nobody tells of arrivals."""
        return []

    def woken(self) -> None:
        """Never called."""

    def limit(self, prefetch: int) -> None:
        """Do nothing: nobody pushes."""

    def pause(self, paused: bool) -> None:
        """Do nothing: nobody pushes."""

    def probe(self) -> bool:
        """Never called: this source asks, so it cannot miss anything."""
        return False

    def close(self) -> None:
        """Give back what is not settled, and delete the queues that go with their reader. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._give_back()
        for name in self._private:
            self._channel.queue_delete(name)
        self._channel.close()

    def _give_back(self) -> None:
        """Put back what is not settled; a source that holds things says how."""
