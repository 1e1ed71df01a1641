"""Every event kind we know, with every field: the table that code, checks and docs read.

Source: Celery protocol, section "Event messages"; fields of origin ``opsq`` are ours. Unknown kinds
and fields are data, not errors; a known field of the wrong type is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

TEXT, NUMBER, WHOLE, FLAG, LIST, OBJECT, ANY = "text", "number", "whole", "flag", "list", "object", "any"

_PYTHON_TYPES: Mapping[str, frozenset[type]] = MappingProxyType(
    {
        TEXT: frozenset({str}),
        NUMBER: frozenset({int, float}),
        WHOLE: frozenset({int}),
        FLAG: frozenset({bool}),
        LIST: frozenset({list}),
        OBJECT: frozenset({dict}),
    }
)


class Field(Struct, frozen=True):
    """One field of an event.

    types: one or more of the type words above, joined by ``|``. nullable: may be null; every field
    but the required ones may also be absent.
    """

    name: str
    types: str
    doc: str
    unit: str = ""
    origin: str = "celery"
    nullable: bool = False
    required: bool = False

    def python_types(self) -> frozenset[type] | None:
        """The exact Python types accepted; None when anything is."""
        if self.types == ANY:
            return None
        found = frozenset[type]().union(*(_PYTHON_TYPES[each] for each in self.types.split("|")))
        return found | {type(None)} if self.nullable else found


class Kind(Struct, frozen=True):
    """One event kind; ``fields`` are those beyond ``COMMON_FIELDS``."""

    name: str
    doc: str
    fields: tuple[Field, ...]
    origin: str = "celery"


COMMON_FIELDS = (
    Field("type", TEXT, "Kind: group, dash, name.", required=True),
    Field("hostname", TEXT, "Node name of the sender, gen<pid>@host for a client.", required=True),
    Field("timestamp", NUMBER, "When it was announced, by the sender's clock.", "epoch seconds", required=True),
    Field("pid", WHOLE, "Process id of the sender.", nullable=True),
    Field("clock", WHOLE, "Lamport clock after increment; null when sent blind.", nullable=True),
    Field("utcoffset", NUMBER, "Hours west of UTC of the sender; informative only.", "hours", nullable=True),
    Field("seq", WHOLE, "Number of this event among those of its emitter, from 1; gaps are losses.", origin="opsq"),
    Field("emitter", TEXT, "UUID of the emitting process, what seq counts in.", origin="opsq"),
)


def _ours(name: str, types: str, doc: str, unit: str = "") -> Field:
    return Field(name, types, doc, unit, origin="opsq", nullable=True)


_UUID = Field("uuid", TEXT, "Task id.", required=True)
_NAME = Field("name", TEXT, "Task name, or its shadow name.", nullable=True)
_ARGS = Field("args", TEXT, "Repr of the positional arguments, at most 1024 characters.", nullable=True)
_KWARGS = Field("kwargs", TEXT, "Repr of the keyword arguments, at most 1024 characters.", nullable=True)
_ROOT = Field("root_id", TEXT, "First task of the workflow.", nullable=True)
_GROUP = _ours("group_id", TEXT, "Group or header of a chord that it is a member of.")
_PARENT = Field("parent_id", TEXT, "Task that published this one; its own id after a retry of a root.", nullable=True)
_RETRIES = Field("retries", WHOLE, "How often it was retried before.", nullable=True)
_ETA = Field("eta", TEXT, "Not before, ISO 8601.", nullable=True)
_EXPIRES = Field("expires", TEXT, "Not after, ISO 8601.", nullable=True)
_CALL = (_NAME, _ARGS, _KWARGS, _ROOT, _PARENT, _RETRIES, _ETA, _EXPIRES)
_EXCEPTION = Field("exception", TEXT, "Repr of the exception.", nullable=True)
_TRACEBACK = Field("traceback", TEXT, "Traceback, as printed.", nullable=True)

_PUBLISHED_AT = _ours("published_at", NUMBER, "When the client published it.", "epoch seconds")
_DELIVERED_AT = _ours("delivered_at", NUMBER, "When the broker handed it to the worker.", "epoch seconds")
_SLOT_AT = _ours("slot_at", NUMBER, "When it was given a slot.", "epoch seconds")
_STARTED_AT = _ours("started_at", NUMBER, "When its function was called.", "epoch seconds")
_FINISHED_AT = _ours("finished_at", NUMBER, "When its function returned or raised.", "epoch seconds")
_ACKED_AT = _ours("acked_at", NUMBER, "When the broker took the settlement.", "epoch seconds")
_ATTEMPT = _ours("attempt", WHOLE, "Which run of the task: retries plus one.")
_QUEUE = _ours("queue", TEXT, "Queue it was taken from.")
_ROUTING_KEY = _ours("routing_key", TEXT, "Routing key it arrived with.")
_POOL = _ours("pool", TEXT, "Pool that ran it: prefork, threads, solo, asyncio, gevent, eventlet.")
_CHILD_PID = _ours("child_pid", WHOLE, "Process that ran it.")
_CPU = _ours("cpu_s", NUMBER, "Processor time of the attempt.", "seconds")
_RSS = _ours("rss_bytes", WHOLE, "Most resident memory of the process that ran it, so far.", "bytes")
_FINGERPRINT = _ours("fingerprint", TEXT, "Hash that is equal for failures of the same cause.")

_PAYLOAD = _ours("payload", TEXT, 'Arguments as JSON, `{"args": […], "kwargs": {…}}`, secrets taken out.')
_COMPLETE = _ours("complete", FLAG, "The payload is the whole of the arguments, unchanged.")
_VERSION = _ours("version", TEXT, "Label of the code that runs it, see `task_version`.")

_PLACE = (_QUEUE, _ROUTING_KEY, _ATTEMPT)
_COURSE = (_PUBLISHED_AT, _DELIVERED_AT, _SLOT_AT, _STARTED_AT, _FINISHED_AT, _ACKED_AT)
_RUN = (*_PLACE, *_COURSE, _CPU, _RSS, _POOL, _CHILD_PID)
#: Ours on every event that ends an attempt; the name too, so that one event alone can be counted.
_ENDING = (*_RUN, _NAME)

_WORKER = (
    Field("freq", NUMBER, "Time between heartbeats; 5 when a command asked for one, and then not the rate.", "seconds"),
    Field("active", WHOLE, "Tasks executing.", "tasks", nullable=True),
    Field("processed", WHOLE, "Tasks accepted since start.", "tasks", nullable=True),
    Field("loadavg", LIST, "Load of the machine over 1, 5 and 15 minutes.", nullable=True),
    Field("sw_ident", TEXT, "Software: py-celery, opsq.", nullable=True),
    Field("sw_ver", TEXT, "Version of the software.", nullable=True),
    Field("sw_sys", TEXT, "Operating system.", nullable=True),
    _ours("slots", WHOLE, "Places to run.", "slots"),
    _ours("busy", WHOLE, "Slots that run a task.", "slots"),
    _ours("prefetch", WHOLE, "Messages taken ahead at most.", "messages"),
    _ours("queues", LIST, "Names of the queues consumed."),
    _ours("paused", LIST, "What remote control has paused: `queue NAME` and `task NAME`."),
    _ours("cpu_share", NUMBER, "Processor time per time since the last heartbeat, children included.", "cores"),
    _ours("rss_bytes", WHOLE, "Resident memory, children included.", "bytes"),
    _ours("pool", TEXT, "Pool: prefork, threads, solo, asyncio, gevent, eventlet."),
    _ours("version", TEXT, "Label of the code it runs, see `task_version`."),
    _ours("dropped", WHOLE, "Events dropped since start because the buffer was full.", "events"),
)

_DECISION = (
    _ours("group", TEXT, "What is scaled: a worker's name, or that of a group."),
    _ours("have", WHOLE, "Slots before; in a dry run those there would have been.", "slots"),
    _ours("want", WHOLE, "Slots that the load asks for.", "slots"),
    _ours("target", WHOLE, "Slots decided.", "slots"),
    _ours("applied", WHOLE, "Slots there are.", "slots"),
    _ours("mode", TEXT, "`live`, `local` (own signals only), `blind` (kept as it is) or `dry` (nothing is changed)."),
    _ours("winner", TEXT, "Name of the bound that set `want`."),
    _ours("capped_by", TEXT, "Name of the bound that kept it lower, if any."),
    _ours("bounds", LIST, "Each bound: `[name, kind, slots, reason]`; kinds are need, cap and floor."),
    _ours("text", TEXT, "The reason in words."),
    _ours("preset", TEXT, "The preset in force."),
    _ours("min", WHOLE, "Fewest slots allowed.", "slots"),
    _ours("max", WHOLE, "Most slots allowed.", "slots"),
    _ours("slo", NUMBER, "Time within which work is to start.", "seconds"),
    _ours("hold", NUMBER, "Time before a shrink, as far as it can be said.", "seconds"),
    _ours("noisy", FLAG, "The load goes up and down, so the hold was doubled."),
    _ours("running", WHOLE, "Slots that run a task.", "slots"),
    _ours("starting", WHOLE, "Slots that are starting.", "slots"),
    _ours("spent", NUMBER, "Slot-hours used today.", "hours"),
    _ours(
        "signals", LIST, "What was looked at: `[queue or entry, name, value, unit, age in seconds]`; age -1: unknown."
    ),
    _ours("queues", LIST, "Names of the queues served."),
)

_ALL = (
    Kind("worker-online", "A worker consumes, or its events were switched on.", _WORKER),
    Kind("worker-heartbeat", "A worker lives.", _WORKER),
    Kind("worker-offline", "A worker stopped cleanly, or its connection restarts.", _WORKER),
    Kind(
        "worker-command",
        "A worker carried out a remote command that changes something.",
        (
            *_WORKER,
            _ours("command", TEXT, "Name of the command."),
            _ours("arguments", TEXT, "Repr of its arguments, secrets masked, at most 1024 characters."),
            _ours("answer", TEXT, "Repr of the reply, at most 1024 characters."),
        ),
        origin="opsq",
    ),
    Kind("worker-autoscale", "A decision about slots; see `docs/autoscale.md`.", _DECISION, origin="opsq"),
    Kind(
        "task-sent",
        "A client published a task.",
        (
            _UUID,
            *_CALL,
            Field("queue", TEXT, "Queue it was sent to.", nullable=True),
            Field("exchange", TEXT, "Exchange it was sent to; empty for the default.", nullable=True),
            Field("routing_key", TEXT, "Routing key it was sent with.", nullable=True),
            _ATTEMPT,
            _PUBLISHED_AT,
            _PAYLOAD,
            _COMPLETE,
            _GROUP,
        ),
    ),
    Kind(
        "task-received",
        "A worker took a task.",
        (_UUID, *_CALL, *_PLACE, _PUBLISHED_AT, _DELIVERED_AT, _PAYLOAD, _COMPLETE, _GROUP),
    ),
    Kind(
        "task-started",
        "A slot began to run a task.",
        (_UUID, _NAME, *_PLACE, _PUBLISHED_AT, _DELIVERED_AT, _SLOT_AT, _STARTED_AT, _POOL, _CHILD_PID, _VERSION),
    ),
    Kind(
        "task-succeeded",
        "A task returned.",
        (
            _UUID,
            Field("result", TEXT, "Repr of the result, at most 1024 characters.", nullable=True),
            Field(
                "runtime", NUMBER, "How long it ran; null when the worker died after storing.", "seconds", nullable=True
            ),
            *_ENDING,
        ),
    ),
    Kind("task-failed", "A task raised, or could not be run.", (_UUID, _EXCEPTION, _TRACEBACK, _FINGERPRINT, *_ENDING)),
    Kind(
        "task-retried",
        "A task asked to be run again.",
        (_UUID, _EXCEPTION, _TRACEBACK, _FINGERPRINT, *_ENDING),
    ),
    Kind(
        "task-revoked",
        "A task was revoked, terminated or had expired.",
        (
            _UUID,
            Field("terminated", FLAG, "It was running and was stopped.", nullable=True),
            Field("signum", "whole|text", "Signal that stopped it.", nullable=True),
            Field("expired", FLAG, "Its expiry had passed.", nullable=True),
            *_ENDING,
        ),
    ),
    Kind(
        "task-rejected",
        "A task refused its delivery, or its process died, or the worker set the message aside.",
        (
            _UUID,
            Field("requeue", FLAG, "The message went back to the queue.", nullable=True),
            _ours("quarantined", TEXT, "Why it was set aside: poison, malformed, untrusted, unknown."),
            _ours("exception", TEXT, "Repr of the exception."),
            *_ENDING,
        ),
    ),
    Kind("task-ignored", "A task asked that its end be ignored.", (_UUID, *_ENDING), origin="opsq"),
    Kind(
        "task-progress",
        "A running task says how far it is.",
        (
            _UUID,
            _NAME,
            # Of any type: programs that never heard of opsq announce a progress of their own making.
            _ours("current", ANY, "How much is done, a number from `update_progress`."),
            _ours("total", ANY, "How much there is to do, a number from `update_progress`."),
            _ours("message", ANY, "What it does now."),
        ),
        origin="opsq",
    ),
    Kind(
        "task-log",
        "Lines that a running task logged.",
        (
            _UUID,
            _ATTEMPT,
            _ours("first", WHOLE, "Number of the first of these lines, from 1."),
            _ours("lines", LIST, "Each line as `[epoch seconds, level, logger, text]`."),
            _ours("left_out", WHOLE, "Lines beyond `event_log_lines_max` so far.", "lines"),
        ),
        origin="opsq",
    ),
    Kind(
        "schedule-tick",
        "A beat sent a call that was due.",
        (
            _ours("name", TEXT, "Name of the entry."),
            _ours("task", TEXT, "Task that was called."),
            _ours("id", TEXT, "Id of the call."),
            _ours("due_at", NUMBER, "The tick.", "epoch seconds"),
            _ours("sent_at", NUMBER, "When the broker had it.", "epoch seconds"),
            _ours("late_s", NUMBER, "Between the two, jitter taken off.", "seconds"),
            _ours("asked", FLAG, "Somebody asked for it, out of turn."),
            _ours("missed", WHOLE, "Ticks of the entry that were not sent so far, by its catch-up rule.", "ticks"),
        ),
        origin="opsq",
    ),
    Kind(
        "schedule-due",
        "A beat says when an entry is due next; said again every `freq` seconds while it is due within ten minutes.",
        (
            _ours("name", TEXT, "Name of the entry."),
            _ours("task", TEXT, "Task that will be called."),
            _ours("queue", TEXT, "Queue that the call goes to, where that can be told."),
            _ours(
                "due", LIST, "The next ticks, jitter included, soonest first; empty: no more of them.", "epoch seconds"
            ),
            _ours("brings", OBJECT, "How many tasks a tick brings, by queue; absent when nobody said.", "tasks"),
            _ours("last_id", TEXT, "Id of its last call."),
            _ours("last_at", NUMBER, "When that was sent.", "epoch seconds"),
            _ours(
                "freq", NUMBER, "After three times as long without another, the beat is taken to be gone.", "seconds"
            ),
        ),
        origin="opsq",
    ),
    Kind("task-cancelled", "A task was cancelled because the connection was lost.", (_UUID, *_ENDING)),
    Kind(
        "worker-elect",
        "A worker stands for an election.",
        (
            Field("id", TEXT, "Election."),
            Field("topic", TEXT, "What the winner does."),
            Field("action", ANY, "With what."),
            Field("cver", WHOLE, "Version of the procedure: 1."),
        ),
    ),
    Kind("worker-elect-ack", "A worker saw an election.", (Field("id", TEXT, "Election."),)),
)

#: Kind name to kind. Custom events of applications (``task-progress`` and such) are not in it.
EVENT_KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL})


def field_types(fields: tuple[Field, ...]) -> dict[str, frozenset[type]]:
    """The accepted Python types by field name, without the fields that take anything."""
    return {each.name: types for each in fields if (types := each.python_types()) is not None}
