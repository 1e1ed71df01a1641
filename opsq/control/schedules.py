"""Remote commands that a beat answers: the schedule listed, changed, paused, a tick out of turn.

Sent like the commands of workers, to nodes called ``beat@…``, so that workers, Celery's too, leave them alone. The beat
that leads answers; the others keep still.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from opsq.control.commands import OPERATOR, VIEWER, Argument, Command
from opsq.errors import Unavailable, UsageError

NODES: Final = "beat@*"
TIMEOUT_S: Final = 5.0

_NAME: Final = Argument("name", "text", "Name of the entry.", required=True)
_EDITABLE: Final = (
    Argument("schedule", "text", "When: `30s`, `*/5 * * * *`, `sunrise 52.5 13.4`."),
    Argument("task", "text", "Name of the task."),
    Argument("args", "any", "Positional arguments, a list."),
    Argument("kwargs", "any", "Keyword arguments, a table."),
    Argument("options", "any", "Options of the call, a table."),
    Argument("timezone", "text", "Zone of this entry."),
    Argument("relative", "flag", "Round an interval down to the day, hour or minute.", default=False),
    Argument("jitter", "number", "Seconds; each tick is sent up to so much later."),
    Argument("catch_up", "text", "What is sent of missed ticks: once, all or none."),
    Argument("deadline", "number", "Seconds; a tick later than this is not sent."),
    Argument("brings", "any", "Tasks that a tick brings, a number or a table by queue; for autoscalers."),
)


def _row(name: str, doc: str, reply: str, *arguments: Argument, **more: Any) -> Command:
    settled = {"effect": "write", "role": OPERATOR, "origin": "opsq", "timeout_s": TIMEOUT_S, **more}
    return Command(name=name, doc=doc, reply=reply, arguments=arguments, **settled)


COMMANDS: Final[Mapping[str, Command]] = {
    row.name: row
    for row in (
        _row("schedule_list", "The entries, how far each is, and when it is next due.", "`{leader, lines}`",
             effect="read", role=VIEWER, shape="facts"),
        _row("schedule_add", "Add an entry, or replace one.", '`{"ok": text}`', _NAME, *_EDITABLE),
        _row("schedule_edit", "Change what is given of an entry.", '`{"ok": text}`', _NAME, *_EDITABLE),
        _row("schedule_remove", "Remove an entry; one of the code becomes again what the code says.",
             '`{"ok": text}`', _NAME),
        _row("schedule_pause", "Send nothing of an entry until it is resumed.", '`{"ok": text}`', _NAME),
        _row("schedule_resume", "Undo a pause; ticks of meanwhile are not sent.", '`{"ok": text}`', _NAME),
        _row("schedule_run", "Send one call now, out of turn.", '`{"ok": text, "id": id}`', _NAME),
    )
}  # fmt: skip
"""By name."""


class NoBeat(Unavailable):
    """No beat leads, or none hears commands."""


class Asks(Protocol):
    """What this needs of ``app.control``."""

    def broadcast(self, command: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Send a command."""
        ...


def ask(control: Asks, command: str, arguments: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Have the leading beat carry out one of ``COMMANDS``, and return its answer.

    Raises: NoBeat when nobody answers in time, UsageError with what the beat refused, BrokerUnavailable.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    answers = control.broadcast(
        command, given, reply=True, timeout=timeout_s, limit=1, pattern=NODES, matcher="glob", kept=False
    )
    for answer in answers or ():
        for value in answer.values():
            if isinstance(value, dict) and value.keys() == {"error"}:
                raise UsageError(str(value["error"]))
            return dict(value)
    raise NoBeat("no beat answered; start one with `opsq beat -A …` or `opsq worker -A … -B`")
