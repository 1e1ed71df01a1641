"""Which published messages an AMQP broker has not taken responsibility for yet."""

from __future__ import annotations

from collections import OrderedDict

from opsq.broker.message import OutMessage


class Confirms:
    """Numbers messages as the broker counts them on one channel, and forgets the confirmed.

    Source: RabbitMQ publisher confirms: tags start at 1 on each channel, ``multiple`` confirms
    everything up to the tag. Thread: that of the channel.
    """

    def __init__(self) -> None:
        self._next = 1
        self._open: OrderedDict[int, OutMessage] = OrderedDict()
        self.refused: list[OutMessage] = []

    def __len__(self) -> int:
        return len(self._open)

    def sent(self, message: OutMessage) -> None:
        """Note a message as published, in the order of publishing."""
        self._open[self._next] = message
        self._next += 1

    def on_ack(self, tag: int, multiple: bool) -> None:
        """The broker has it."""
        self._close(tag, multiple)

    def on_nack(self, tag: int, multiple: bool) -> None:
        """The broker refused it; kept in ``refused``."""
        self.refused.extend(self._close(tag, multiple))

    def unconfirmed(self) -> list[OutMessage]:
        """Return what is still open, oldest first: to be published again on a new connection."""
        return list(self._open.values())

    def _close(self, tag: int, multiple: bool) -> list[OutMessage]:
        if not multiple:
            message = self._open.pop(tag, None)
            return [] if message is None else [message]
        closed = []
        while self._open and next(iter(self._open)) <= tag:
            closed.append(self._open.popitem(last=False)[1])
        return closed
