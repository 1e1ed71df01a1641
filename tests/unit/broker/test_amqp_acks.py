"""Coalesced acknowledgements never settle what is not done."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from opsq.broker.amqp.acks import Unsettled
from opsq.broker.message import Settle, Settlement

HOW = st.sampled_from([Settle.ACK, Settle.ACK, Settle.ACK, Settle.REQUEUE, Settle.REJECT])


class Broker:
    """RabbitMQ's side of one channel: what it still counts as unsettled, and what it was told."""

    def __init__(self, tags: range) -> None:
        self.unsettled = set(tags)
        self.told: dict[int, str] = {}
        self.frames = 0

    def read(self, data: bytes) -> None:
        while data:
            kind, channel, size, klass, method, tag, bit, end = struct.unpack_from(">BHIHHQBB", data)
            assert (kind, channel, size, klass, end) == (1, 3, 13, 60, 0xCE)
            assert tag > 0, "tag 0 would settle everything"
            settled = {each for each in self.unsettled if each <= tag} if method == 80 and bit else {tag}
            assert settled <= self.unsettled, "a tag that is not open closes the channel"
            for each in settled:
                self.told[each] = {80: "ack", 90: "requeue" if bit else "reject"}[method]
            self.unsettled -= settled
            self.frames += 1
            data = data[21:]


@settings(max_examples=300)
@given(st.permutations(range(1, 31)), st.lists(HOW, min_size=30, max_size=30), st.integers(1, 12))
def test_each_delivery_ends_as_it_was_settled_and_no_other_does(
    order: list[int], how: list[Settle], per_write: int
) -> None:
    broker, unsettled = Broker(range(1, 31)), Unsettled(3)
    for tag in range(1, 31):
        unsettled.add(tag)
    done: dict[int, str] = {}
    for start in range(0, 30, per_write):
        some = order[start : start + per_write]
        broker.read(unsettled.settle([Settlement(tag, how[tag - 1]) for tag in some]))
        done |= {tag: how[tag - 1].value for tag in some}
        assert broker.told == done
    assert len(unsettled) == 0


def test_a_row_is_one_frame_and_strangers_are_none() -> None:
    broker, unsettled = Broker(range(1, 501)), Unsettled(3)
    for tag in range(1, 501):
        unsettled.add(tag)
    broker.read(unsettled.settle([Settlement(tag) for tag in range(1, 401)]))
    assert broker.frames == 1
    assert unsettled.settle([Settlement(7), Settlement(9_999), Settlement(None)]) == b""
    assert len(unsettled) == 100
