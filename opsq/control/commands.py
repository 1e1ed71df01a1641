"""The table of remote commands: names, arguments, replies; read by worker, client, command line and docs.

Whether a command is called by ``inspect`` or by ``control`` makes no difference on the wire; the
table says which of the two lists it (``effect``). Source: Celery protocol C.4 and C.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from opsq.errors import UsageError

DEFAULT_TIMEOUT_S = 1.0


class Argument(Struct, frozen=True):
    """One argument of a command.

    kind: text, integer, number, flag, texts (one or several), rate or any. required: must be given.
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

    effect: ``read`` changes nothing, ``write`` does. aliases: older names of Celery. words: order of the
    arguments on the command line where it is not that of ``arguments``. reply: what is answered.
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
        return " ".join([self.name, *parts])


def _read(name: str, doc: str, reply: str, *arguments: Argument, **more: Any) -> Command:
    return Command(name=name, effect="read", doc=doc, reply=reply, arguments=arguments, **more)


def _write(name: str, doc: str, reply: str, *arguments: Argument, **more: Any) -> Command:
    return Command(name=name, effect="write", doc=doc, reply=reply, arguments=arguments, **more)


_IDS = Argument("task_id", "texts", "Id, or ids, of tasks.", required=True)
_SIGNAL = Argument("signal", "any", "Signal for `terminate`, by name or number; TERM by default.", word=False)
_TERMINATE = Argument("terminate", "flag", "Also stop it when it runs.", default=False, word=False)
_N = Argument("n", "integer", "How many slots.", default=1)

_TABLE: Final[tuple[Command, ...]] = (
    _read("ping", "Answer.", '`{"ok": "pong"}`'),
    _read("clock", "The worker's logical clock.", '`{"clock": n}`'),
    _read("report", "Versions and settings, for a bug report.", '`{"ok": text}`'),
    _read(
        "conf",
        "The settings, secrets masked.",
        "setting → value",
        Argument("with_defaults", "flag", "Include the settings that have their defaults.", default=False),
        aliases=("dump_conf",),
    ),
    _read(
        "stats", "Counts, pool, broker, resource use.", "`total, pid, clock, uptime, pool, broker, prefetch_count …`"
    ),
    _read(
        "active",
        "The tasks that run now.",
        "list of requests",
        Argument("safe", "flag", "Arguments as text instead of as data.", default=False),
        aliases=("dump_active",),
    ),
    _read("reserved", "The tasks that wait for a slot.", "list of requests", aliases=("dump_reserved",)),
    _read(
        "scheduled",
        "The tasks that wait for their time or their rate.",
        "list of `{eta, priority, request}`",
        aliases=("dump_schedule",),
    ),
    _read("revoked", "The ids of revoked tasks.", "list of ids", aliases=("dump_revoked",)),
    _read(
        "registered",
        "The tasks that the worker knows.",
        "list of `name [attribute=value …]`",
        Argument("taskinfoitems", "texts", "Attributes to show; exchange, routing_key and rate_limit by default."),
        Argument("builtins", "flag", "Also the built-in tasks.", default=False, word=False),
        aliases=("dump_tasks",),
    ),
    _read("active_queues", "The queues that the worker takes from.", "list of queues"),
    _read(
        "query_task",
        "Where tasks are, by id.",
        "id → `[state, request]`",
        Argument("ids", "texts", "Ids of tasks.", required=True),
    ),
    _read("memsample", "Resident memory of the worker's main process.", 'text such as `"57.1MB"`'),
    _read(
        "memdump",
        "The samples that `memsample` took.",
        "text",
        Argument("samples", "integer", "How many, at most.", default=10),
    ),
    _read(
        "objgraph",
        "Answered with an error: the library is not part of opsq.",
        "error",
        Argument("type", "text", "Name of a class.", default="Request"),
        Argument("num", "integer", "How many objects.", default=200),
        Argument("max_depth", "integer", "How many levels.", default=10),
        timeout_s=60.0,
    ),
    _read(
        "hello",
        "Exchange revoked ids with a worker that starts.",
        "`{revoked, clock}`, null to itself",
        Argument("from_node", "text", "Node name of the sender.", required=True),
        Argument("revoked", "any", "Its revoked ids."),
        hidden=True,
    ),
    _write(
        "rate_limit",
        "Limit how often tasks of a type start.",
        '`{"ok": text}`',
        Argument("task_name", "text", "Name of the task.", required=True),
        Argument("rate_limit", "rate", "Such as 10/s, 100/m, 5/h; 0 for none.", required=True),
    ),
    _write(
        "time_limit",
        "Limit how long tasks of a type may run; counts for those that have not been given to a slot.",
        '`{"ok": text}`',
        Argument("task_name", "text", "Name of the task.", required=True),
        Argument("soft", "number", "Seconds after which SoftTimeLimitExceeded is raised; none by default."),
        Argument("hard", "number", "Seconds after which it is killed; none by default."),
    ),
    _write(
        "revoke",
        "Do not run tasks; with `terminate`, stop those that run.",
        '`{"ok": text}`',
        _IDS,
        _TERMINATE,
        _SIGNAL,
    ),
    _write(
        "terminate",
        "Revoke tasks and stop those that run.",
        '`{"ok": text}`',
        Argument("signal", "any", "Signal, by name or number.", required=True),
        _IDS,
    ),
    _write(
        "revoke_by_stamped_headers",
        "Revoke the tasks that carry one of these stamps.",
        '`{"ok": text}`',
        Argument("headers", "any", "Name → value or list of values; or a list of `name=value`.", required=True),
        _TERMINATE,
        _SIGNAL,
    ),
    _write("enable_events", "Send task events.", '`{"ok": text}`'),
    _write("disable_events", "Send no task events.", '`{"ok": text}`'),
    _write("heartbeat", "Send a heartbeat event now.", "null"),
    _write("pool_grow", "Add slots.", '`{"ok": "pool will grow"}`', _N),
    _write("pool_shrink", "Take slots away as they become free.", '`{"ok": "pool will shrink"}`', _N),
    _write(
        "pool_restart",
        "Answered with an error: children are renewed by autoreload and recycling.",
        "error",
        Argument("modules", "any", "Modules to import."),
        Argument("reload", "flag", "Import them anew.", default=False),
        Argument("reloader", "any", "Function to import with."),
    ),
    _write(
        "autoscale",
        "Set the bounds of autoscaling.",
        '`{"ok": text}`; an error where it is off',
        Argument("max", "integer", "Most slots."),
        Argument("min", "integer", "Fewest slots."),
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
    ),
    _write(
        "election",
        "Celery's gossip; answered, never joined.",
        "null",
        Argument("id", "text", "Id of the election.", required=True),
        Argument("topic", "text", "What it is about.", required=True),
        Argument("action", "any", "What the winner is to do."),
        hidden=True,
    ),
)

COMMANDS: Final[Mapping[str, Command]] = {command.name: command for command in _TABLE}
"""The commands by name."""
BY_ANY_NAME: Final[Mapping[str, Command]] = {
    **COMMANDS,
    **{alias: command for command in _TABLE for alias in command.aliases},
}
"""The commands by name and by alias."""

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "flag": (bool,),
    "rate": (str, int, float),
    "texts": (str, list, tuple),
}


def checked(command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for a handler, defaults filled in.

    Raises: TypeError in Python's words, as a Celery worker answers it.
    """
    known = {argument.name: argument for argument in command.arguments}
    for name in given:
        if name not in known and not command.open:
            raise TypeError(f"{command.name}() got an unexpected keyword argument {name!r}")
    missing = [name for name, each in known.items() if each.required and name not in given]
    if missing:
        raise TypeError(f"{command.name}() missing required argument: {', '.join(map(repr, missing))}")
    values = {name: given.get(name, each.default) for name, each in known.items()}
    for name, each in known.items():
        _check_type(command, each, values[name])
    return {**given, **values}


def _check_type(command: Command, argument: Argument, value: Any) -> None:
    if argument.kind == "any" or value is None:
        return
    right = isinstance(value, _TYPES[argument.kind])
    if isinstance(value, bool) and argument.kind in ("integer", "number", "rate"):
        right = False
    if isinstance(value, (list, tuple)):
        right = right and all(isinstance(each, str) for each in value)
    if not right:
        wanted = "text or list of texts" if argument.kind == "texts" else argument.kind
        raise TypeError(f"{command.name}() argument {argument.name!r}: expected {wanted}, got {value!r:.100}")


def from_words(command: Command, words: Sequence[str]) -> dict[str, Any]:
    """Read a command's arguments as typed: by position, or as ``name=value``.

    Raises: UsageError that says what was expected.
    """
    known = {argument.name: argument for argument in command.arguments}
    found: dict[str, Any] = {}
    waiting = list(command.in_words())
    headers: list[str] = []
    for word in words:
        name, equals, text = word.partition("=")
        if command.name == "revoke_by_stamped_headers" and name not in ("terminate", "signal"):
            headers.append(word)
        elif equals and name in known:
            found[name] = _value(command, known[name], text)
        else:
            _take_word(command, waiting, found, word)
    if headers:
        found["headers"] = headers
    missing = [name for name, each in known.items() if each.required and name not in found]
    if missing:
        raise UsageError(f"{command.name} needs {', '.join(missing)}; write: {command.usage()}")
    return found


def _take_word(command: Command, waiting: list[Argument], found: dict[str, Any], word: str) -> None:
    while waiting and waiting[0].name in found and waiting[0].kind != "texts":
        waiting.pop(0)
    if not waiting:
        raise UsageError(f"{command.name}: did not expect {word!r}; write: {command.usage()}")
    argument = waiting[0]
    if argument.kind == "texts":
        found.setdefault(argument.name, []).append(word)
    else:
        found[argument.name] = _value(command, waiting.pop(0), word)


def _value(command: Command, argument: Argument, text: str) -> Any:
    try:
        if argument.kind == "integer":
            return int(text)
        if argument.kind == "number":
            return float(text)
    except ValueError:
        raise UsageError(f"{command.name}: {argument.name}: expected {argument.kind}, got {text!r}") from None
    if argument.kind == "flag":
        if text.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
            raise UsageError(f"{command.name}: {argument.name}: expected true or false, got {text!r}")
        return text.lower() in ("1", "true", "yes", "on")
    if argument.kind == "texts":
        return [part for part in text.split(",") if part]
    return text
