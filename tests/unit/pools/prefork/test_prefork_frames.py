"""Frames and packets, without processes."""

from __future__ import annotations

import contextlib
import os
import socket

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.core.pools.prefork_frames import (
    INLINE_MAX_BYTES,
    NowIO,
    discard_packet,
    frame,
    packet_pair,
    receive_packet,
    send_packet,
    split_frames,
    try_send_by_file,
)
from opsq.core.pools.prefork_records import Failed, Leaving, Ready


@given(st.lists(st.sampled_from([Ready(5), Leaving("tasks"), Failed("x" * 300)]), max_size=6), st.data())
def test_frames_survive_any_cut(frames, data):
    stream = b"".join(map(frame, frames))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    got, rest = [], b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        some, rest = split_frames(rest + stream[start:end])
        got += some
    assert got == frames
    assert rest == b""


@given(st.binary(max_size=200))
def test_foreign_bytes_raise_nothing_but_value_error(data):
    with contextlib.suppress(ValueError):
        split_frames(data)


def test_an_absurd_length_is_refused():
    with pytest.raises(ValueError, match="announced"):
        split_frames(b"\xff\xff\xff\xff")


@pytest.mark.parametrize("size", [1, INLINE_MAX_BYTES - 8, INLINE_MAX_BYTES - 7, 3_000_000])
def test_packets_of_every_size_keep_their_descriptors(size):
    near, far = packet_pair()
    read, write = os.pipe()
    try:
        data = bytes(8) + os.urandom(size)
        send_packet(near, data, [write])
        got, fds = receive_packet(far, bytearray(INLINE_MAX_BYTES))
        assert bytes(got) == data[8:]
        assert len(fds) == 1
        os.write(fds[0], b"hi")
        assert os.read(read, 2) == b"hi"
        os.close(fds[0])
    finally:
        for end in (near, far):
            end.close()
        os.close(read)
        os.close(write)


def test_a_discarded_packet_closes_its_file():
    near, far = packet_pair()
    with near, far:
        before = len(os.listdir("/proc/self/fd"))
        assert try_send_by_file(near, (7).to_bytes(8, "big") + b"x" * 100_000)
        assert discard_packet(far) == 7
        assert discard_packet(far) is None
        assert len(os.listdir("/proc/self/fd")) == before


def test_now_io_never_waits():
    io = NowIO()
    near, far = packet_pair()
    assert io.recv(far.fileno()) is None
    sent = 0
    while io.send(near.fileno(), b"x" * 1000):
        sent += 1
    assert sent > 100
    assert io.recv(far.fileno()) == b"x" * 1000
    far.close()
    with pytest.raises(ConnectionError):
        io.send(near.fileno(), b"x")
    near.close()
    left, right = socket.socketpair()
    left.close()
    assert io.recv(right.fileno()) == b""
    right.close()


def test_decode_errors_are_value_errors():
    assert issubclass(msgspec.DecodeError, ValueError)
