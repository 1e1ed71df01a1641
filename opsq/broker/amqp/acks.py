"""Which deliveries of a channel are unsettled, and how to settle many with few frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opsq.broker.amqp.frames import ack, reject
from opsq.broker.message import Settle, Settlement


class Unsettled:
    """The deliveries of one channel that wait to be settled, oldest first.

    An acknowledgement with ``multiple`` settles everything up to its tag, so it is used only for the
    oldest deliveries in a row of which every one is done. Thread: the owner's.
    """

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._open: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, tag: int) -> None:
        """Note a delivery; tags of a channel only grow."""
        self._open[tag] = None

    def settle(self, settlements: Sequence[Settlement]) -> bytes:
        """Forget these deliveries and return the frames that tell the broker; unknown tags are left out."""
        parts: list[bytes] = []
        done: set[int] = set()
        for each in settlements:
            if each.tag not in self._open:
                continue
            if each.how is Settle.ACK:
                done.add(each.tag)
            else:
                # Refused before anything is acknowledged: a later multiple would swallow it.
                del self._open[each.tag]
                done.discard(each.tag)
                parts.append(reject(self._channel, each.tag, requeue=each.how is Settle.REQUEUE))
        parts += self._acks(done)
        return b"".join(parts)

    def _acks(self, done: set[int]) -> Iterable[bytes]:
        row = self._oldest_in_row(done)
        for tag in row:
            del self._open[tag]
        if row:
            yield ack(self._channel, row[-1], multiple=len(row) > 1)
        for tag in sorted(done.difference(row)):
            del self._open[tag]
            yield ack(self._channel, tag, multiple=False)

    def _oldest_in_row(self, done: set[int]) -> list[int]:
        row: list[int] = []
        for tag in self._open:
            if tag not in done:
                break
            row.append(tag)
        return row
