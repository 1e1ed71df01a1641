"""Workers as their events show them: alive, late, lost or gone, and what they said last.

Liveness is judged by the monitor's own clock, from when events arrived; a worker whose clock is wrong is not
lost. Any event of a worker proves that it lives. What it says about itself is ordered by its own clock, so a
late ``worker-offline`` of an earlier start does not put it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import msgspec

from opsq.events.catch_up import INSPECTED
from opsq.events.records import WorkerItem
from opsq.wire.event import Event

ONLINE, LATE, LOST, OFFLINE = "online", "late", "lost", "offline"
DEFAULT_FREQ_S: Final = 2.0
#: Heartbeats that may be missing before a worker is late, and before it is given up.
LATE_BEATS: Final = 3.0
LOST_BEATS: Final = 5.0
#: An idle or busy machine hiccups; shorter silences are never called late.
LATE_S: Final = 6.0
#: A shorter silence is never called lost: ``monitor_worker_offline_after``.
LOST_S: Final = 60.0
#: Entries of a worker's history that are kept.
HISTORY: Final = 50
STARTED, RESTARTED, STOPPED, SILENT = "started", "restarted", "stopped", "silent"
#: A remote command it carried out.
COMMAND: Final = "command"
#: The label of the code it runs, when that is first told or changed.
VERSION: Final = "version"
_LONGEST_COMMAND: Final = 500
_LONGEST_VERSION: Final = 100
_SKEW_WINDOW_S: Final = 60.0
_KNOWN: Final = frozenset(
    {
        *("freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys", "slots", "busy", "prefetch"),
        *("pool", "queues", "cpu_share", "rss_bytes", "dropped", "failures"),
    }
)
_MAX_DETAILS_BYTES: Final = 16_384
_UNKEEPABLE: Final = 1 << 60
#: What a worker says it uses is kept so often, in seconds; of many workers less often, or idle fleets fill the store.
_LOAD_S: Final = 5.0
_LOADS_PER_S: Final = 10


class WorkerRecord(msgspec.Struct, array_like=True):
    """What is kept of one worker. said: its last facts; (said_at, clock) orders them by its own clock.

    lost_after_s: silence after which it is given up. history: (at by our clock, what, detail), oldest first:
    "started", "restarted" and "stopped" with the incarnation, "silent" with the seconds nothing was heard of it,
    "command" (at by its clock) with the remote command it carried out, its arguments and the answer, "version" with
    the label of the code it runs from then on.
    """

    name: str
    first_seen_at: float
    last_seen_at: float
    said_at: float = 0.0
    clock: int = 0
    offline: bool = False
    incarnation: str | None = None
    pid: int | None = None
    freq_s: float = DEFAULT_FREQ_S
    said: dict[str, Any] = {}
    skew_s: float | None = None
    skew_since: float = 0.0
    lost_after_s: float = LOST_S
    history: list[tuple[float, str, str]] = []
    version: str = ""


_ENCODER = msgspec.msgpack.Encoder()


def restore_workers(workers: Workers, stored: Mapping[str, bytes]) -> None:
    """Put stored records back."""
    for name, data in stored.items():
        record = msgspec.msgpack.decode(data, type=WorkerRecord)
        record.lost_after_s = workers.offline_after_s
        workers.records[name] = record


class Workers:
    """All workers of a cluster. Thread: the writer's; ``items`` may be called from any."""

    def __init__(self, *, max_workers: int = 5_000, offline_after_s: float = LOST_S) -> None:
        self._max = max_workers
        self.offline_after_s = offline_after_s
        self.records: dict[str, WorkerRecord] = {}
        self.changed: set[str] = set()
        self.removed: set[str] = set()
        self._load_at: dict[str, float] = {}

    def heard(self, name: str, at: float, now: float, *, announces: bool = False) -> None:
        """Something came from this node at ``now``, stamped ``at``. Clients are not workers: only a worker event
        (``announces``) makes a node known."""
        record = self.records.get(name)
        if record is None:
            if not announces:
                return
            self._bound(name)
            record = self.records[name] = WorkerRecord(name, now, now, lost_after_s=self.offline_after_s)
        elif not record.offline and liveness(record, now) == LOST:
            _note(record, now, SILENT, f"{now - record.last_seen_at:.0f}")
        record.last_seen_at = max(record.last_seen_at, now)
        if record.offline and at > record.said_at and not announces:
            record.offline = False
        # The fastest event bounds the skew: what is left above it is delay.
        ahead = at - now
        if record.skew_s is None or ahead > record.skew_s or now - record.skew_since > _SKEW_WINDOW_S:
            record.skew_s, record.skew_since = ahead, now
        self.changed.add(name)

    def said(self, event: Event, now: float) -> None:
        """A ``worker-*`` event: take over what it says when it is the latest."""
        name = event.hostname
        if event.kind == INSPECTED and name not in self.records:
            return  # it left meanwhile
        self.heard(name, event.timestamp, now, announces=True)
        record = self.records[name]
        if event.kind == INSPECTED:
            # Long answers are kept; what no store can keep would be in the way of all that is written with it.
            if _size(event.fields) < _UNKEEPABLE:
                record.said = {**record.said, **event.fields}
            return
        order = (event.timestamp, event.clock or 0)
        if order < (record.said_at, record.clock):
            return
        fields = event.fields
        freq = fields.get("freq")
        # A heartbeat that answers a remote command says freq and nothing else: that is no change of rate.
        if _is_number(freq) and freq > 0 and "processed" in fields:
            record.freq_s = float(freq)
        record.said_at, record.clock = order
        self._note_life(record, event, now)
        record.pid = event.pid
        facts = {key: value for key, value in fields.items() if value is not None}
        version = _text(facts.get("version") or "")[:_LONGEST_VERSION]
        if version not in ("", record.version):
            record.version = version
            _note(record, now, VERSION, version)
        if event.kind == "worker-command":
            told = [_text(facts.pop(name, "")) for name in ("command", "arguments", "answer")]
            entry = (event.timestamp, COMMAND, " ".join(told)[:_LONGEST_COMMAND])
            if entry not in record.history:
                _note(record, *entry)
        if _size(facts) <= _MAX_DETAILS_BYTES:
            whole = event.kind in ("worker-online", "worker-offline")
            record.said = facts if whole else {**record.said, **facts}

    def load_due(self, event: Event, now: float) -> tuple[float | None, int | None] | None:
        """Cores and bytes that a worker says it uses, when it is time to keep them; None when not, or not told."""
        name, every_s = event.hostname, max(_LOAD_S, len(self.records) / _LOADS_PER_S)
        if name not in self.records or now - self._load_at.get(name, 0.0) < every_s:
            return None
        cpu, rss = _number(event.fields, "cpu_share"), _count(event.fields, "rss_bytes")
        if cpu is None and rss is None:
            return None
        self._load_at[name] = now
        return cpu, rss

    def _note_life(self, record: WorkerRecord, event: Event, now: float) -> None:
        """Tell another start of the same name from the one before, and starts from stops."""
        was_offline, known = record.offline, record.incarnation
        if event.emitter:
            record.incarnation = event.emitter
        elif event.pid != record.pid or known is None or (event.kind == "worker-online" and _restarted(record, event)):
            record.incarnation = f"{event.pid}@{event.timestamp:.3f}"
        record.offline = event.kind == "worker-offline"
        if record.offline:
            if not was_offline:
                _note(record, now, STOPPED, record.incarnation or "")
        elif known is None or record.incarnation != known:
            _note(record, now, STARTED if known is None else RESTARTED, record.incarnation or "")

    def _bound(self, name: str) -> None:
        if len(self.records) >= self._max:
            quietest = min(self.records.values(), key=lambda record: record.last_seen_at)
            self.forget(quietest.name)
        self.removed.discard(name)

    def forget(self, name: str) -> None:
        """Remove a worker."""
        if self.records.pop(name, None) is not None:
            self.changed.discard(name)
            self.removed.add(name)
            self._load_at.pop(name, None)

    def forget_silent(self, before: float) -> None:
        """Remove workers that were last heard before then."""
        for name in [record.name for record in self.records.values() if record.last_seen_at < before]:
            self.forget(name)

    def status(self, name: str, now: float) -> str | None:
        """How the worker is, ``None`` when it is not known. Thread: any."""
        record = self.records.get(name)
        return None if record is None else liveness(record, now)

    def take(self) -> dict[str, bytes | None]:
        """Records changed since the last call as stored, ``None`` for those removed."""
        taken: dict[str, bytes | None] = {
            name: _ENCODER.encode(self.records[name]) for name in self.changed if name in self.records
        }
        taken.update(dict.fromkeys(self.removed))
        self.changed.clear()
        self.removed.clear()
        return taken

    def copy(self) -> list[WorkerRecord]:
        """All records. Thread: any; the records themselves may still change."""
        return list(self.records.copy().values())


def _restarted(record: WorkerRecord, event: Event) -> bool:
    """Is ``worker-online`` of the same process id another start? Celery also says it when events are switched on."""
    done, counted = _count(record.said, "processed"), _count(event.fields, "processed")
    return record.offline or (done is not None and counted is not None and counted < done)


def _note(record: WorkerRecord, at: float, what: str, detail: str) -> None:
    # Replaced whole, so that a reader in another thread never sees it change.
    record.history = [*record.history, (at, what, detail)][-HISTORY:]


def liveness(record: WorkerRecord, now: float) -> str:
    """Judge a worker by how long it has been silent, measured against the beats it announced."""
    if record.offline:
        return OFFLINE
    silent_s = now - record.last_seen_at
    if silent_s <= min(max(LATE_S, record.freq_s * LATE_BEATS), record.lost_after_s):
        return ONLINE
    return LATE if silent_s < max(record.lost_after_s, record.freq_s * LOST_BEATS) else LOST


def worker_item(
    record: WorkerRecord, now: float, *, gaps: int | None, running: int, succeeded: int, failed: int
) -> WorkerItem:
    """The record as a page shows it."""
    said = record.said
    software = " ".join(str(said[key]) for key in ("sw_ident", "sw_ver") if said.get(key))
    loads = said.get("loadavg")
    names = said.get("queues")
    share = _number(said, "cpu_share")
    return WorkerItem(
        name=record.name,
        status=liveness(record, now),
        last_seen_at=record.last_seen_at,
        first_seen_at=record.first_seen_at,
        incarnation=record.incarnation,
        pid=record.pid,
        freq_s=record.freq_s,
        active=_count(said, "active"),
        processed=_count(said, "processed"),
        slots=_count(said, "slots"),
        busy=_count(said, "busy"),
        prefetch=_count(said, "prefetch"),
        loadavg=tuple(float(load) for load in loads if _is_number(load))[:3] if isinstance(loads, list) else (),
        cpu_percent=None if share is None else share * 100,
        rss_bytes=_count(said, "rss_bytes"),
        pool=said["pool"] if isinstance(said.get("pool"), str) else None,
        queues=tuple(str(one) for one in names)[:100] if isinstance(names, list) else (),
        software=software or None,
        skew_s=record.skew_s,
        dropped=_count(said, "dropped"),
        gaps=gaps,
        running=running,
        succeeded=succeeded,
        failed=failed,
        details={key: value for key, value in said.items() if key not in _KNOWN},
    )


def _text(value: object) -> str:
    """Of text that may be stored, the text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else repr(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -(2**53) < value < 2**53


def _count(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    return int(value) if _is_number(value) else None


def _number(said: Mapping[str, Any], name: str) -> float | None:
    value = said.get(name)
    return float(value) if _is_number(value) else None


def _size(facts: Mapping[str, Any]) -> int:
    try:
        return len(msgspec.msgpack.encode(facts))
    except (OverflowError, ValueError, TypeError, RecursionError):
        return _UNKEEPABLE
