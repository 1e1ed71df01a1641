"""The table of remote commands: names, arguments, replies; read by worker, client, command line and docs.

Whether a command is called by ``inspect`` or by ``control`` makes no difference on the wire; the
table says which of the two lists it (``effect``). Source: Celery protocol C.4 and C.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

DEFAULT_TIMEOUT_S = 1.0

VIEWER: Final = "viewer"
OPERATOR: Final = "operator"
ADMIN: Final = "admin"
ROLES: Final = (VIEWER, OPERATOR, ADMIN)
"""Who may do what; each may what those before may."""


class Argument(Struct, frozen=True):
    """One argument of a command.

    kind: text, integer, number, flag, texts (one or several), rate, time (seconds; 90s, 5m, 2h, 1d on the
    command line) or any. required: must be given.
    default: for those that are not. word: whether it can be given on the command line without its name.
    """

    name: str
    kind: str
    doc: str
    required: bool = False
    default: Any = None
    word: bool = True


class Command(Struct, frozen=True, kw_only=True):
    """One command.

    effect: ``read`` changes nothing, ``write`` does. role: who may, ``viewer``, ``operator`` or ``admin``, each
    of whom may what those before may. aliases: older names of Celery. words: order of the arguments on the
    command line where it is not that of ``arguments``. reply: what is answered; shape: in which form (``ok``,
    ``table``, ``names``, ``facts``, ``text``, ``null``, ``none``). columns: of a table worth showing.
    standing: the broker keeps the order for workers that are not there. origin: ``celery`` or ``opsq``.
    silent: no reply is sent. hidden: not listed, for programs. open: any further argument is passed on.
    timeout_s: how long the command line waits for replies.
    """

    name: str
    effect: str
    doc: str
    reply: str
    arguments: tuple[Argument, ...] = ()
    aliases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    role: str = "viewer"
    shape: str = "ok"
    columns: tuple[str, ...] = ()
    standing: bool = False
    origin: str = "celery"
    silent: bool = False
    hidden: bool = False
    open: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S

    def in_words(self) -> tuple[Argument, ...]:
        """The arguments that the command line takes without their names, in that order."""
        if self.words:
            by_name = {argument.name: argument for argument in self.arguments}
            return tuple(by_name[name] for name in self.words)
        return tuple(argument for argument in self.arguments if argument.word)

    def usage(self) -> str:
        """How to write it on the command line: ``NAME <required> [optional]``."""
        parts = []
        for argument in self.in_words():
            shown = f"{argument.name}…" if argument.kind == "texts" else argument.name
            parts.append(f"<{shown}>" if argument.required else f"[{shown}]")
        if not parts:
            parts = [f"[{argument.name}=…]" for argument in self.arguments if argument.name != "for_s"]
        return " ".join([self.name, *parts])


def _read(name: str, doc: str, reply: str, *arguments: Argument, **more: Any) -> Command:
    return Command(name=name, effect="read", doc=doc, reply=reply, arguments=arguments, **more)


def _write(name: str, doc: str, reply: str, *arguments: Argument, **more: Any) -> Command:
    return Command(name=name, effect="write", doc=doc, reply=reply, arguments=arguments, **{"role": OPERATOR, **more})


_IDS = Argument("task_id", "texts", "Id, or ids, of tasks.", required=True)
_SIGNAL = Argument("signal", "any", "Signal for `terminate`, by name or number; TERM by default.", word=False)
_TERMINATE = Argument("terminate", "flag", "Also stop it when it runs.", default=False, word=False)
_N = Argument("n", "integer", "How many slots.", default=1)
_FOR = Argument("for_s", "time", "How long it shall count, in seconds; then what was before counts again.", word=False)
_KEPT_FOR = Argument(
    "for_s", "time", "How long the broker keeps it, in seconds; `worker_revoke_expires` by default.", word=False
)
_REQUEST = ("id", "name", "args", "kwargs", "time_start", "worker_pid")

_TABLE: Final[tuple[Command, ...]] = (
    _read("ping", "Answer.", '`{"ok": "pong"}`'),
    _read("clock", "The worker's logical clock.", '`{"clock": n}`', shape="facts"),
    _read("report", "Versions and settings, for a bug report.", '`{"ok": text}`'),
    _read(
        "conf",
        "The settings, secrets masked.",
        "setting → value",
        Argument("with_defaults", "flag", "Include the settings that have their defaults.", default=False),
        aliases=("dump_conf",),
        shape="facts",
    ),
    _read(
        "stats",
        "Counts, pool, broker, resource use.",
        "`total, pid, clock, uptime, pool, broker, prefetch_count …`",
        shape="facts",
    ),
    _read(
        "active",
        "The tasks that run now.",
        "list of requests",
        Argument("safe", "flag", "Arguments as text instead of as data.", default=False),
        aliases=("dump_active",),
        shape="table",
        columns=_REQUEST,
    ),
    _read(
        "reserved",
        "The tasks that wait for a slot.",
        "list of requests",
        aliases=("dump_reserved",),
        shape="table",
        columns=("id", "name", "args", "kwargs"),
    ),
    _read(
        "scheduled",
        "The tasks that wait for their time or their rate.",
        "list of `{eta, priority, request}`",
        aliases=("dump_schedule",),
        shape="table",
        columns=("eta", "request.id", "request.name", "request.args", "request.kwargs"),
    ),
    _read("revoked", "The ids of revoked tasks.", "list of ids", aliases=("dump_revoked",), shape="names"),
    _read(
        "registered",
        "The tasks that the worker knows.",
        "list of `name [attribute=value …]`",
        Argument("taskinfoitems", "texts", "Attributes to show; exchange, routing_key and rate_limit by default."),
        Argument("builtins", "flag", "Also the built-in tasks.", default=False, word=False),
        aliases=("dump_tasks",),
        shape="names",
    ),
    _read(
        "active_queues",
        "The queues that the worker takes from.",
        "list of queues",
        shape="table",
        columns=("name", "exchange.name", "exchange.type", "routing_key", "durable", "max_priority"),
    ),
    _read(
        "query_task",
        "Where tasks are, by id.",
        "id → `[state, request]`",
        Argument("ids", "texts", "Ids of tasks.", required=True),
        shape="facts",
    ),
    _read("memsample", "Resident memory of the worker's main process.", 'text such as `"57.1MB"`', shape="text"),
    _read(
        "memdump",
        "The samples that `memsample` took.",
        "text",
        Argument("samples", "integer", "How many, at most.", default=10),
        shape="text",
    ),
    _read(
        "objgraph",
        "Draw what holds on to objects of a class. Celery workers do where objgraph is installed; opsq's do not.",
        '`{"filename": path}`, a picture on the worker\'s machine; of opsq `{"error": …}`, as Celery without objgraph',
        Argument("type", "text", "Name of a class.", default="Request"),
        Argument("num", "integer", "How many objects.", default=200),
        Argument("max_depth", "integer", "How many levels.", default=10),
        timeout_s=60.0,
        shape="facts",
        role=OPERATOR,
    ),
    _read(
        "hello",
        "Exchange revoked ids with a worker that starts.",
        "`{revoked, clock}`, null to itself",
        Argument("from_node", "text", "Node name of the sender.", required=True),
        Argument("revoked", "any", "Its revoked ids."),
        hidden=True,
        shape="facts",
    ),
    _read(
        "stack",
        "Where running tasks are in their code, line by line.",
        "list of `{id, name, pid, stack}`",
        Argument("task_id", "texts", "Ids of tasks; all that run by default."),
        origin="opsq",
        role=OPERATOR,
        shape="table",
        columns=("id", "name", "pid", "stack"),
        timeout_s=3.0,
    ),
    _read(
        "overrides",
        "What was changed by remote control and ends by itself, and what is paused.",
        "list of `{what, now, then, until}`",
        origin="opsq",
        shape="table",
        columns=("what", "now", "then", "until"),
    ),
    _read(
        "replay",
        "The events of these numbers that are still kept, for a monitor that missed them.",
        '`{"ok": text, "events": […], "complete": flag}`',
        Argument("emitter", "text", "Which emitter, by its UUID.", required=True),
        Argument("first", "integer", "Number of the first event wanted.", required=True),
        Argument("last", "integer", "Number of the last.", required=True),
        origin="opsq",
        hidden=True,
        shape="facts",
    ),
    _write(
        "rate_limit",
        "Limit how often tasks of a type start.",
        '`{"ok": text}`',
        Argument("task_name", "text", "Name of the task.", required=True),
        Argument("rate_limit", "rate", "Such as 10/s, 100/m, 5/h; 0 for none.", required=True),
        _FOR,
    ),
    _write(
        "time_limit",
        "Limit how long tasks of a type may run; counts for those that have not been given to a slot.",
        '`{"ok": text}`',
        Argument("task_name", "text", "Name of the task.", required=True),
        Argument("soft", "number", "Seconds after which SoftTimeLimitExceeded is raised; none by default."),
        Argument("hard", "number", "Seconds after which it is killed; none by default."),
        _FOR,
    ),
    _write(
        "revoke",
        "Do not run tasks; with `terminate`, stop those that run.",
        '`{"ok": text}`',
        _IDS,
        _TERMINATE,
        _SIGNAL,
        _KEPT_FOR,
        standing=True,
    ),
    _write(
        "terminate",
        "Revoke tasks and stop those that run.",
        '`{"ok": text}`',
        Argument("signal", "any", "Signal, by name or number.", required=True),
        _IDS,
        _KEPT_FOR,
        standing=True,
    ),
    _write(
        "revoke_by_stamped_headers",
        "Revoke the tasks that carry one of these stamps.",
        '`{"ok": text}`',
        Argument("headers", "any", "Name → value or list of values; or a list of `name=value`.", required=True),
        _TERMINATE,
        _SIGNAL,
        _KEPT_FOR,
        standing=True,
    ),
    _write("enable_events", "Send task events.", '`{"ok": text}`'),
    _write("disable_events", "Send no task events.", '`{"ok": text}`'),
    _write("heartbeat", "Send a heartbeat event now.", "null", shape="null"),
    _write("pool_grow", "Add slots.", '`{"ok": "pool will grow"}`', _N, _FOR),
    _write("pool_shrink", "Take slots away as they become free.", '`{"ok": "pool will shrink"}`', _N, _FOR),
    _write(
        "pool_restart",
        "Replace the child processes, each after the task it runs; where `worker_pool_restarts` allows it.",
        '`{"ok": "reload started"}`',
        Argument("modules", "any", "Refused, as are the next two: code is renewed by `--autoreload`."),
        Argument("reload", "flag", "Import modules anew.", default=False),
        Argument("reloader", "any", "Function to import with."),
        role=ADMIN,
    ),
    _write(
        "autoscale",
        "Set the bounds of autoscaling.",
        '`{"ok": text}`; an error where it is off',
        Argument("max", "integer", "Most slots."),
        Argument("min", "integer", "Fewest slots."),
        role=ADMIN,
    ),
    _write(
        "add_consumer",
        "Take from one more queue.",
        '`{"ok": "add consumer NAME"}`',
        Argument("queue", "text", "Name of the queue.", required=True),
        Argument("exchange", "text", "Its exchange; called like the queue by default."),
        Argument("exchange_type", "text", "direct by default.", default="direct"),
        Argument("routing_key", "text", "Called like the queue by default."),
        open=True,
    ),
    _write(
        "cancel_consumer",
        "Take from a queue no longer.",
        '`{"ok": text}`',
        Argument("queue", "text", "Name of the queue.", required=True),
    ),
    _write(
        "shutdown",
        "Stop the worker, warmly.",
        "none",
        Argument("msg", "text", "What to log.", default="Got shutdown from remote"),
        silent=True,
        role=ADMIN,
        shape="none",
    ),
    _write(
        "pause",
        "Begin no more tasks of a queue or of a type, everywhere, also in workers that start later.",
        '`{"ok": text}`',
        Argument("queue", "texts", "Queues to take nothing more from; what was taken is worked off.", word=False),
        Argument("task", "texts", "Task types to hold back; workers keep what they were given.", word=False),
        _FOR,
        origin="opsq",
        standing=True,
    ),
    _write(
        "resume",
        "Undo `pause`.",
        '`{"ok": text}`',
        Argument("queue", "texts", "Queues.", word=False),
        Argument("task", "texts", "Task types.", word=False),
        origin="opsq",
        standing=True,
    ),
    _write(
        "log_level",
        "Log more, or less, at once, in the worker's main process and its child processes.",
        '`{"ok": text}`',
        Argument("level", "text", "DEBUG, INFO, WARNING, ERROR or CRITICAL.", required=True),
        Argument("logger", "text", "Name of a logger; all by default."),
        _FOR,
        origin="opsq",
    ),
    _write(
        "election",
        "Celery's gossip; answered, never joined.",
        "null",
        Argument("id", "text", "Id of the election.", required=True),
        Argument("topic", "text", "What it is about.", required=True),
        Argument("action", "any", "What the winner is to do."),
        hidden=True,
        role=ADMIN,
        shape="null",
    ),
)

COMMANDS: Final[Mapping[str, Command]] = {command.name: command for command in _TABLE}
"""The commands by name."""
BY_ANY_NAME: Final[Mapping[str, Command]] = {
    **COMMANDS,
    **{alias: command for command in _TABLE for alias in command.aliases},
}
"""The commands by name and by alias."""
