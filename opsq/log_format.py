"""How a log record looks, as text for people or as one JSON object. Pure.

Fields beside the message come from ``extra`` and from ``record.opsq_fields``, which the handler of
``logs.py`` sets to what was bound.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from opsq.masking import mask

Fields = Mapping[str, object]
NO_FIELDS: Final[Fields] = MappingProxyType({})
CONTEXT_NAMES: Final = ("task_id", "task", "queue", "attempt", "worker")
_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message", "asctime", "taskName", "opsq_fields",
}  # fmt: skip
_COLORS: Final = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_PLAIN: Final = "\x1b[0m"
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) not in "\n\t"}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Everything beside the message that ``record`` carries: bound fields, then ``extra``, masked."""
    fields = dict(getattr(record, "opsq_fields", NO_FIELDS))
    for name, value in vars(record).items():
        if name not in _STANDARD:
            fields[name] = value
    return {name: mask(value) for name, value in fields.items()}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, the fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Raises: nothing; what JSON cannot hold is shown by its ``repr``."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in fields_of(record).items():
            line[f"field_{name}" if name in line else name] = value
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, _ = record.exc_info
            trace = self.formatException(record.exc_info)
            line["exception"] = {"type": kind.__name__, "message": str(error), "traceback": trace}
        try:
            return json.dumps(line, default=repr, ensure_ascii=False, allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            # circular, NaN or odd keys: a log line must not be lost for that
            return json.dumps({name: str(value) for name, value in line.items()}, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """Lines for people: time, level, logger, message, then ``name=value``.

    color: paint the level. fmt, task_fmt: `logging` formats to use instead, the second for lines
    inside a task. Control characters are escaped, so that a message cannot forge a line or
    drive the terminal.
    """

    def __init__(
        self,
        *,
        color: bool = False,
        fmt: str | None = None,
        datefmt: str | None = None,
        task_fmt: str | None = None,
        task_datefmt: str | None = None,
    ) -> None:
        super().__init__(fmt, datefmt)
        self._own = fmt is None
        self._color = color
        self._task = logging.Formatter(task_fmt, task_datefmt or datefmt) if task_fmt else None

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback on lines below it."""
        fields = getattr(record, "opsq_fields", NO_FIELDS)
        if self._task is not None and "task_id" in fields:
            text = self._task.format(_with_fields(record, fields))
        elif not self._own:
            text = super().format(_with_fields(record, fields))
        else:
            return self._format_own(record)
        return text.translate(_CONTROL)

    def _format_own(self, record: logging.LogRecord) -> str:
        when = self.formatTime(record, self.datefmt or "%Y-%m-%d %H:%M:%S")
        if not self.datefmt:
            when = f"{when}.{int(record.msecs):03d}"
        level = f"{record.levelname:<8}"
        if self._color and record.levelname in _COLORS:
            level = f"{_COLORS[record.levelname]}{level}{_PLAIN}"
        message = record.getMessage().translate(_CONTROL).replace("\n", "\n    ")
        line = f"{when} {level} {record.name}  {message}"
        pairs = [f"{name}={_short(value)}" for name, value in fields_of(record).items() if value is not None]
        if pairs:
            line += "  " + " ".join(pairs)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info).translate(_CONTROL)
        return line


def _with_fields(record: logging.LogRecord, fields: Fields) -> logging.LogRecord:
    """A copy that also answers Celery's format names, ``task_name`` and ``task_id``."""
    copy = logging.makeLogRecord(vars(record))
    vars(copy).setdefault("task_name", fields.get("task", "???"))
    for name in CONTEXT_NAMES:
        vars(copy).setdefault(name, fields.get(name, "???"))
    return copy


def _short(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    plain = text.isprintable() and not any(mark in text for mark in ' ="') and text != ""
    return text if plain else json.dumps(text, ensure_ascii=False)
