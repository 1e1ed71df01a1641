"""How records cross the sockets between the worker, the fork server and its children.

Three kinds of socket, all made by the worker:

    control   worker ⇄ fork server   packets; a ``Fork`` carries two descriptors
    down      worker → child         packets, one job each
    up        child → worker         a stream of length-prefixed frames

A packet socket keeps each job whole, so whoever reads next gets exactly one: the child, or the
worker when it takes queued jobs back from a child that is stuck. A packet has a size limit of the
kernel's, so a large one travels as a memory file whose descriptor is sent instead.
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
from collections.abc import Sequence
from typing import Final

from opsq.core.pools.base import Job
from opsq.core.pools.prefork_records import Notice, Request, UpFrame, decode_up, encode

INLINE_MAX_BYTES: Final = 64 * 1024
"""Packets above this travel as a memory file; far below the kernel's limit for one packet."""

FRAME_MAX_BYTES: Final = 64 * 1024 * 1024
"""A child that announces a longer frame than this is broken."""

SOCKET_BUFFER_BYTES: Final = 1 << 20

KEY_BYTES: Final = 8

PING: Final = b"?"
"""Payload of a packet that asks a child whether it reads its socket at all."""

_NO_KEY: Final = bytes(KEY_BYTES)
PING_PACKET: Final = _NO_KEY + PING
_BY_FILE: Final = b"@"  # no MessagePack map or array begins with this byte
_HEADER_BYTES: Final = 4
_MAX_FDS: Final = 4
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Make a connected pair of packet sockets, with room for a good number of jobs."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (near, far):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    return near, far


def send_packet(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet, with descriptors; waits for room. Raises OSError when nobody reads."""
    if len(data) <= INLINE_MAX_BYTES:
        _send_with_fds(sock, data, fds)
        return
    spill = spill_to_file(data)
    try:
        _send_with_fds(sock, data[:KEY_BYTES] + _BY_FILE, [spill, *fds])
    finally:
        os.close(spill)


def job_packet(job: Job) -> bytes:
    """Encode ``job`` as a packet: its key, so that it can be told apart unread, then the job."""
    return job.key.to_bytes(KEY_BYTES, "big") + encode(job)


def control_packet(message: Notice | Request) -> bytes:
    """Encode a message between worker and fork server."""
    return _NO_KEY + encode(message)


def try_send_by_file(sock: socket.socket, data: bytes) -> bool:
    """Send ``data`` as a memory file if there is room now. Raises OSError when nobody reads."""
    spill = spill_to_file(data)
    try:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [spill]))]
        sock.sendmsg([data[:KEY_BYTES] + _BY_FILE], ancillary, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    finally:
        os.close(spill)
    return True


def receive_packet(sock: socket.socket, buffer: bytearray) -> tuple[bytes | memoryview, list[int]]:
    """Wait for one packet, return it without its key; empty data means the other end is gone.

    buffer: scratch of at least ``INLINE_MAX_BYTES``; the data returned may point into it.
    """
    size, ancillary, _, _ = sock.recvmsg_into([buffer], _ANCILLARY_BYTES)
    fds = _fds_of(ancillary) if ancillary else []
    if fds and size == KEY_BYTES + 1 and buffer[KEY_BYTES:size] == _BY_FILE:
        return memoryview(_read_and_close(fds[0]))[KEY_BYTES:], fds[1:]
    return memoryview(buffer)[KEY_BYTES:size], fds


def discard_packet(sock: socket.socket) -> int | None:
    """Take one waiting packet off ``sock``, drop it and return its key; None when there is none."""
    try:
        data, ancillary, _, _ = sock.recvmsg(KEY_BYTES, _ANCILLARY_BYTES, socket.MSG_DONTWAIT)
    except (BlockingIOError, ConnectionResetError):
        return None
    for fd in _fds_of(ancillary):
        os.close(fd)
    return int.from_bytes(data, "big") if data else None


def frame(up: UpFrame) -> bytes:
    """Encode one frame for the up stream."""
    data = encode(up)
    return len(data).to_bytes(_HEADER_BYTES, "big") + data


def split_frames(data: bytes) -> tuple[list[UpFrame], bytes]:
    """Cut ``data`` into whole frames and what is left over.

    Raises ValueError (msgspec's errors are) when the bytes are not frames.
    """
    frames: list[UpFrame] = []
    view = memoryview(data)
    at, end = 0, len(data)
    while end - at >= _HEADER_BYTES:
        size = int.from_bytes(view[at : at + _HEADER_BYTES], "big")
        if size > FRAME_MAX_BYTES:
            raise ValueError(f"a frame of {size} bytes is announced, at most {FRAME_MAX_BYTES} can be")
        start = at + _HEADER_BYTES
        if end - start < size:
            break
        frames.append(decode_up(view[start : start + size]))
        at = start + size
    return frames, data[at:]


class NowIO:
    """Socket calls that never wait and never let go of the interpreter lock.

    Python's own calls release the lock around each system call. With another busy thread, each of
    the hundreds of small sends of one batch would then queue for the lock again: 640 µs a send
    instead of 2, measured. These calls cannot block, so holding on is safe.
    """

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None, use_errno=True)
        self._send = libc.send
        self._send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
        self._send.restype = ctypes.c_ssize_t
        self._recv = libc.recv
        self._recv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._recv.restype = ctypes.c_ssize_t
        self._scratch = ctypes.create_string_buffer(256 * 1024)

    def send(self, fd: int, data: bytes) -> bool:
        """Send one packet now; false when there is no room. Raises OSError when nobody reads."""
        sent: int = self._send(fd, data, len(data), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if sent >= 0:
            return True
        return not _raise_unless_full()

    def recv(self, fd: int) -> bytes | None:
        """Return what has arrived: None when nothing has, ``b""`` when the other end is gone."""
        size: int = self._recv(fd, self._scratch, len(self._scratch), socket.MSG_DONTWAIT)
        if size >= 0:
            return ctypes.string_at(self._scratch, size)
        try:
            _raise_unless_full()
        except ConnectionError:
            return b""
        return None


def _raise_unless_full() -> bool:
    """Turn errno into an exception, except for 'not now', which is True."""
    number = ctypes.get_errno()
    error = OSError(number, os.strerror(number))
    if isinstance(error, (BlockingIOError, InterruptedError)):
        return True
    raise error


def _send_with_fds(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    if fds:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    else:
        sock.send(data)


def _fds_of(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def spill_to_file(data: bytes) -> int:
    """Write ``data`` to a new memory file and return its descriptor."""
    fd = os.memfd_create("opsq-packet", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


def _read_and_close(fd: int) -> bytes:
    try:
        size = os.fstat(fd).st_size
        parts: list[bytes] = []
        at = 0
        while at < size:
            part = os.pread(fd, size - at, at)
            if not part:
                raise EOFError(f"a memory file of {size} bytes ended after {at}")
            parts.append(part)
            at += len(part)
        return b"".join(parts)
    finally:
        os.close(fd)
