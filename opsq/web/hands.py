"""What the pages can do to the fleet, as the web side sees it. ``opsq.cli.hands`` does it, through the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from opsq.events.records import TaskDetail


class CallAgain(msgspec.Struct, frozen=True, kw_only=True):
    """A call to be made once more, with everything that is known of it. of: id of the task it was."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    queue: str | None = None
    of: str = ""
    root_id: str | None = None
    countdown_s: float | None = None


class Peeked(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits. body: its beginning as text, hidden from visitors without the permission ``payload``."""

    id: str | None
    task: str | None
    size_bytes: int
    priority: int = 0
    eta: str | None = None
    expires: str | None = None
    redelivered: bool = False
    args: str | None = None
    kwargs: str | None = None
    body: str | None = None


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """A message in quarantine with its evidence. at: epoch seconds. deaths: how many processes it cost."""

    id: str
    kind: str
    reason: str
    at: float
    size_bytes: int
    task: str | None = None
    worker: str = ""
    queue: str | None = None
    deaths: int = 0
    details: tuple[Mapping[str, Any], ...] = ()


class Ticked(msgspec.Struct, frozen=True, kw_only=True):
    """One call that a schedule sent. id: of its task. due_at, sent_at: epoch seconds. asked: out of turn."""

    id: str
    due_at: float
    sent_at: float
    late_s: float
    asked: bool = False


class Scheduled(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the schedule. upcoming: its next ticks, epoch seconds; none while it is paused.

    source: ``code`` or ``runtime``. missed: ticks that its catch-up rule left out. repeated: sent again under the same
    id. error: why it could not be sent last. recent: oldest first.
    """

    name: str
    task: str
    schedule: str
    timezone: str | None
    args: str
    kwargs: str
    options: str
    catch_up: str
    source: str
    paused: bool
    jitter_s: float = 0.0
    deadline_s: float | None = None
    upcoming: tuple[float, ...] = ()
    total: int = 0
    missed: int = 0
    repeated: int = 0
    late_max_s: float = 0.0
    error: str | None = None
    recent: tuple[Ticked, ...] = ()


class Timetable(msgspec.Struct, frozen=True, kw_only=True):
    """The schedule at a moment. leader: the beat that sends, None while none does. note: why it may be incomplete."""

    at: float
    leader: str | None = None
    lease_s: float | None = None
    entries: tuple[Scheduled, ...] = ()
    note: str = ""


class Answers(msgspec.Struct, frozen=True):
    """What workers said to an order. kept: the broker keeps it for those that start later."""

    by_node: Mapping[str, Any]
    kept: bool = False


class Hands(Protocol):
    """Does things. Thread: any; each call blocks until it is done. Raises: OpsqError, every method."""

    def order(self, command: str, arguments: Mapping[str, Any], nodes: Sequence[str], expected: int) -> Answers:
        """Send a remote command and collect answers. nodes: empty for everybody, of whom ``expected`` are up."""
        ...

    def send(self, call: CallAgain) -> str:
        """Publish a call; returns its new id."""
        ...

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue; how many."""
        ...

    def move(self, queue: str, to: str, most: int) -> int:
        """Put up to ``most`` waiting messages of a queue, oldest first, on another; how many."""
        ...

    def peek(self, queue: str, most: int) -> tuple[Peeked, ...]:
        """Look at waiting messages and put them back."""
        ...

    def quarantined(self, most: int) -> tuple[SetAside, ...]:
        """List what was set aside, oldest first."""
        ...

    def release(self, id: str) -> str:
        """Put a message that was set aside back on its queue; the queue's name."""
        ...

    def drop(self, id: str) -> None:
        """Delete a message that was set aside."""
        ...

    def timetable(self) -> Timetable:
        """Tell the schedule as it was read a moment ago."""
        ...

    def schedule(self, command: str, arguments: Mapping[str, Any]) -> str:
        """Have the leading beat carry out a command of ``opsq.control.schedules``; its answer."""
        ...


class Payload(msgspec.Struct, frozen=True):
    """The arguments that an event carried whole."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def whole_call(detail: TaskDetail) -> CallAgain | str:
    """The call that a task was, or in words why it cannot be made again.

    Only from a payload that says it is complete: a repr cannot be turned back into values, and a guess would run.
    """
    item = detail.item
    if not item.type:
        return "the name of the task is not known"
    if detail.payload is None:
        return "no event carried the values of its arguments, only their text"
    if detail.complete is not True:
        return "its arguments are not whole here: secrets were taken out, or they were too long to keep"
    try:
        payload = msgspec.json.decode(detail.payload, type=Payload)
    except msgspec.DecodeError:
        return "its payload cannot be read"
    return CallAgain(
        name=item.type, args=payload.args, kwargs=payload.kwargs, queue=item.queue, of=item.id,
        root_id=item.root_id or item.id,
    )  # fmt: skip
