"""Waking another process on this machine through a datagram socket.

A SQLite file cannot call its readers. So whoever waits binds a unix datagram socket in a private
directory named after the file, and whoever has committed something sends one byte to each socket
there. A lost ring costs time, never data: waiters also look every now and then by themselves.

Sockets lie in ``<tmp>/opsq-<uid>/<hash of the real path>/<hash of the channel>/``, mode 0700. Only
processes of the same user can ring; those of others fall back on the waiter's own look.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
import socket
import stat
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from opsq.errors import ConfigError

# A unix socket address holds 108 bytes on Linux and 104 elsewhere, one of them the closing zero.
ADDRESS_MAX_BYTES = 100
# A directory's time stamp moves in ticks of a few milliseconds. A listing taken within that time
# of the last change may miss a socket made in the same tick, and would then be kept for ever.
_RACY_NS = 50_000_000
_RING = b"\0"
# Channels come and go (one per private queue); beyond this many the ringer looks them up afresh.
_CHANNELS_MAX = 1024
_BIND_ATTEMPTS = 5


def doorbell_dir(path: str | Path, channel: str) -> Path:
    """Return the directory whose sockets are rung for ``channel`` of the database at ``path``."""
    real = os.path.realpath(path)
    database = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    return _private_root() / database / hashlib.sha256(channel.encode()).hexdigest()[:12]


class Doorbell:
    """A socket that others ring; becomes readable when they did.

    channel: what to be woken for, for example ``queue:celery``; more through ``listen``.
    Thread: one waits; ``close`` from the same one.
    Raises: ConfigError when the private directory belongs to somebody else.
    """

    def __init__(self, path: str | Path, channel: str) -> None:
        self._path = path
        self._name = f"{os.getpid():x}-{uuid.uuid4().hex[:8]}"
        self._pid = os.getpid()
        self._links: dict[str, Path] = {}
        self._address = doorbell_dir(path, channel) / self._name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # said like this because greenlet libraries do not know the flag
        try:
            _place(self._address, lambda: self._socket.bind(str(self._address)))
        except BaseException:
            self._socket.close()
            raise
        self._links[channel] = self._address
        self._closed = False

    def fileno(self) -> int:
        """Return the descriptor to wait on with ``select``."""
        return self._socket.fileno()

    def listen(self, channel: str) -> None:
        """Be woken for ``channel`` too."""
        if channel in self._links:
            return
        link = doorbell_dir(self._path, channel) / self._name
        # A link, not a second socket: the waiter needs one descriptor however many queues it reads.
        _place(link, lambda: os.symlink(self._address, link))
        self._links[channel] = link

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until rung, at most ``timeout_s`` seconds; say whether it was, and take the rings."""
        ready, _, _ = select.select([self._socket], [], [], timeout_s)
        return self.drain() if ready else False

    def drain(self) -> bool:
        """Take all rings that are there; say whether there were any. Never blocks."""
        rung = False
        while True:
            try:
                self._socket.recv(16)
            except OSError as exc:
                if exc.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return rung
                raise
            rung = True

    def close(self) -> None:
        """Stop being rung and remove the socket. Safe to call twice, and in a forked child."""
        if self._closed:
            return
        self._closed = True
        self._socket.close()
        if os.getpid() != self._pid:  # the name still belongs to the parent
            return
        for link in self._links.values():
            _remove(str(link))


class Ringer:
    """Rings the doorbells of one database, and remembers who listens.

    Use this one to ring often; ``ring`` looks the listeners up every time.
    Thread: any, one at a time. After a fork: make a new one.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # said like this because greenlet libraries do not know the flag
        self._channels: dict[str, _Listeners] = {}

    def ring(self, channel: str) -> int:
        """Wake whoever listens on ``channel``; return how many sockets took the ring. Never blocks."""
        listeners = self._channels.get(channel)
        if listeners is None:
            if len(self._channels) >= _CHANNELS_MAX:
                self._channels.clear()
            listeners = self._channels[channel] = _Listeners(str(doorbell_dir(self._path, channel)))
        rung = 0
        for address in listeners.addresses():
            try:
                self._socket.sendto(_RING, address)
                rung += 1
            except OSError as exc:
                # Full: it has rings it has not taken yet, so it is awake or about to be.
                if exc.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS):
                    rung += 1
                else:
                    listeners.gone(address, exc)
        return rung

    def close(self) -> None:
        """Give the socket back. Safe to call twice."""
        self._socket.close()
        self._channels.clear()


def ring(path: str | Path, channel: str) -> int:
    """Wake whoever waits on ``channel`` of the database at ``path``; return how many were rung."""
    ringer = Ringer(path)
    try:
        return ringer.ring(channel)
    finally:
        ringer.close()


class _Listeners:
    """The addresses in one directory, read again when the directory changes."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._addresses: tuple[str, ...] = ()
        self._changed_ns = -1

    def addresses(self) -> tuple[str, ...]:
        try:
            changed_ns = os.stat(self._directory).st_mtime_ns
        except FileNotFoundError:
            self._changed_ns = -1
            return ()
        if changed_ns == self._changed_ns:
            return self._addresses
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return ()
        self._addresses = tuple(f"{self._directory}/{name}" for name in names)
        settled = abs(time.time_ns() - changed_ns) > _RACY_NS
        self._changed_ns = changed_ns if settled else -1
        return self._addresses

    def gone(self, address: str, exc: OSError) -> None:
        """Forget a listener that cannot be rung, and remove what a dead process left behind."""
        self._changed_ns = -1
        if exc.errno in (errno.ECONNREFUSED, errno.ENOENT):
            _remove(address)


def _place(address: Path, make: Callable[[], object]) -> None:
    """Run ``make`` with the directory of ``address`` in place."""
    for attempt in range(_BIND_ATTEMPTS):
        _make_private(address.parent)
        try:
            make()
            return
        except FileNotFoundError:  # somebody removed the empty directory in between
            if attempt == _BIND_ATTEMPTS - 1:
                raise


def _remove(address: str) -> None:
    """Remove a socket or link, and its directory when that was the last one."""
    with contextlib.suppress(OSError):
        os.unlink(address)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(address))


def _private_root() -> Path:
    """Return the user's own directory for sockets, short enough for an address."""
    name = f"opsq-{os.getuid()}"
    root = Path(tempfile.gettempdir()) / name
    # 16 + 12 for the hashes, up to 17 for the socket's name and 3 separators.
    if len(os.fsencode(root)) + 48 > ADDRESS_MAX_BYTES:
        root = Path("/tmp") / name
    return root


def _make_private(directory: Path) -> Path:
    """Create ``directory`` below the private root, for this user only."""
    root = _private_root()
    for each in (root, directory.parent, directory):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each, 0o700)
    info = os.lstat(root)
    if info.st_uid != os.getuid() or not stat.S_ISDIR(info.st_mode) or stat.S_IMODE(info.st_mode) & 0o077:
        raise ConfigError(
            f"{root} must be a directory of user {os.getuid()} with mode 0700, found mode "
            f"{stat.S_IMODE(info.st_mode):04o} of user {info.st_uid}; remove it or set TMPDIR"
        )
    return directory
