"""What the worker, its fork server and its children say to each other.

Records only; how they travel is in ``prefork_frames``.
"""

from __future__ import annotations

import msgspec

from opsq.core.pools.base import Job, Outcome


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True):
    """The child has built its runner and takes jobs."""

    pid: int


class Done(msgspec.Struct, frozen=True, tag="done", array_like=True):
    """The oldest job sent down has ended. busy_s: how long it kept the slot, storing included."""

    outcome: Outcome
    busy_s: float


class Leaving(msgspec.Struct, frozen=True, tag="leaving", array_like=True):
    """The child takes no further job and ends. reason: ``tasks``, ``memory``, ``files`` or ``asked``."""

    reason: str


class Alive(msgspec.Struct, frozen=True, tag="alive", array_like=True):
    """The answer to ``PING``."""


class Failed(msgspec.Struct, frozen=True, tag="failed", array_like=True):
    """The child could not build its runner. text: the traceback, bounded."""

    text: str


class MainModule(msgspec.Struct, frozen=True):
    """The script or module the worker was started as; one of the two is set."""

    name: str | None = None
    path: str | None = None


class ChildOptions(msgspec.Struct, frozen=True):
    """When a child ends by itself; 0 means never. memory in KiB of resident size.

    fresh: each child imports the app itself, instead of sharing what the fork server has imported.
    detached: let go of the terminal that the worker was started from.
    """

    max_tasks: int = 0
    max_memory_kib: int = 0
    fresh: bool = False
    detached: bool = False


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """First packet to the fork server: what to import and how a child builds its runner.

    spec: ``module:callable``, or empty when ``pickled`` holds the callable.
    """

    parent_pid: int
    sys_path: list[str]
    argv: list[str]
    cwd: str
    main: MainModule | None
    spec: str
    pickled: bytes
    options: ChildOptions


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Make child ``number``; the packet carries its end of down and of up."""

    number: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The fork server has imported the app and takes ``Fork``."""

    seconds: float


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """The fork server could not import the app and ends. text: the traceback, bounded."""

    text: str


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """Child ``number`` lives as ``pid``."""

    number: int
    pid: int


class ForkFailed(msgspec.Struct, frozen=True, tag="fork_failed"):
    """The system refused to fork. text: why."""

    number: int
    text: str


class Died(msgspec.Struct, frozen=True, tag="died"):
    """Child ``number`` has ended. code: its exit code, or minus the signal that killed it."""

    number: int
    pid: int
    code: int


UpFrame = Ready | Done | Leaving | Failed | Alive
Notice = Loaded | LoadFailed | Forked | ForkFailed | Died
Request = Setup | Fork

encode = msgspec.msgpack.Encoder(enc_hook=str).encode  # a peer's header of an odd type must not stop the job
decode_job = msgspec.msgpack.Decoder(Job).decode
decode_up = msgspec.msgpack.Decoder(UpFrame).decode
decode_notice = msgspec.msgpack.Decoder(Notice).decode
decode_request = msgspec.msgpack.Decoder(Request).decode
