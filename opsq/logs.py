"""Log lines that say which task, queue and worker they belong to, as text for people or as JSON.

``setup`` is called once, by a command; libraries and tasks only use ``logging``. What is bound with
``bind`` (task_id, task, queue, attempt) is on every record of that thread or coroutine, whoever logs
it. opsq's own repeated lines collapse ("×57 in 30 s"); those of tasks never do, they are the user's.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Final, TextIO

from opsq.clock import Clock, SystemClock
from opsq.errors import ConfigError, Fault
from opsq.log_format import NO_FIELDS, ConsoleFormatter, Fields, JsonFormatter
from opsq.log_repeats import Repeats
from opsq.settings import Settings

__all__ = [
    "ConsoleFormatter", "JsonFormatter", "LogConfig", "LogHandler", "bind", "bound", "config_from",
    "file_name", "get_task_logger", "pop", "push", "setup",
]  # fmt: skip

_CONTEXT: Final[ContextVar[Fields]] = ContextVar("opsq_log_fields", default=NO_FIELDS)


def push(fields: Fields) -> Token[Fields]:
    """Bind ``fields`` over those already bound; give the token to ``pop``. The fast form of ``bind``.

    ``fields`` is kept, not copied: the caller must not change it afterwards.
    """
    outer = _CONTEXT.get()
    return _CONTEXT.set({**outer, **fields} if outer else fields)


def pop(token: Token[Fields]) -> None:
    """Undo the ``push`` that gave ``token``."""
    _CONTEXT.reset(token)


class bind:
    """Put ``fields`` on every log record until the ``with`` block ends."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = push(self._fields)

    def __exit__(self, *exc_info: object) -> None:
        _CONTEXT.reset(self._token)


def bound() -> Fields:
    """What is bound here and now."""
    return _CONTEXT.get()


def get_task_logger(name: str) -> logging.Logger:
    """Return the logger to use inside tasks; its lines carry the task's name and id by themselves."""
    return logging.getLogger(name)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How to log; names and meanings are those of the settings.

    path: log file, None for ``setup``'s stream. color: None means when the stream is a terminal.
    worker: node name put on every line. hijack_root: replace the root logger's handlers.
    """

    log_format: str = "console"
    level: str = "INFO"
    path: str | None = None
    color: bool | None = None
    fmt: str | None = None
    datefmt: str | None = None
    task_fmt: str | None = None
    task_datefmt: str | None = None
    repeat_window_s: float = 30.0
    repeat_limit: int = 3
    hijack_root: bool = True
    worker: str = ""
    clock: Clock = field(default_factory=SystemClock)


def config_from(settings: Settings, *, worker: str = "", level: str | None = None) -> LogConfig:
    """Return the logging part of ``settings``; ``level`` wins over the setting."""
    return LogConfig(
        log_format=settings.log_format,
        level=level or settings.log_level,
        path=file_name(settings.worker_logfile, worker) if settings.worker_logfile else None,
        color=settings.worker_log_color,
        fmt=settings.worker_log_format,
        datefmt=settings.worker_log_datefmt,
        task_fmt=settings.worker_task_log_format,
        task_datefmt=settings.worker_task_log_datefmt,
        repeat_window_s=settings.log_repeat_window,
        repeat_limit=settings.log_repeat_limit,
        hijack_root=settings.worker_hijack_root_logger,
        worker=worker,
    )


def file_name(pattern: str, node: str) -> str:
    """Fill in the name of a log or pid file for ``node``: ``%n`` its name, ``%h`` all of it, ``%d`` its domain.

    ``%i``, ``%I`` and ``%p`` are those of Celery's main process: all processes of a worker share one log.
    """
    name, _, host = node.partition("@")
    domain = host.partition(".")[2]
    for mark, text in (("%h", node), ("%n", name), ("%d", domain), ("%i", "0"), ("%I", ""), ("%p", node)):
        pattern = pattern.replace(mark, text)
    return pattern.replace("%%", "%")


class LogHandler(logging.Handler):
    """Write records, with what is bound, to a stream or a file.

    A file is made readable by its owner only, and opened anew when it was moved away (logrotate).
    Thread: any; ``logging`` holds the handler's lock around ``emit``.
    """

    def __init__(self, config: LogConfig, stream: TextIO | None = None) -> None:
        super().__init__(config.level.upper())
        self._path = os.path.abspath(config.path) if config.path else None
        self._stream: TextIO = _open_private(self._path) if self._path else stream or sys.stderr
        self._fixed: Fields = {"worker": config.worker} if config.worker else NO_FIELDS
        self._repeats = Repeats(config.repeat_window_s, config.repeat_limit, config.clock)
        self.lost = 0
        self.setFormatter(_formatter(config, self._stream))

    def emit(self, record: logging.LogRecord) -> None:
        """Write ``record`` unless it repeats, and the summaries that are due.

        Raises: nothing; a line that cannot be written is counted in ``lost``.
        """
        fields = _CONTEXT.get()
        record.opsq_fields = {**self._fixed, **fields} if self._fixed else fields
        for summary in self._repeats.due():
            self._write(summary)
        if self._repeats.admit(record):
            self._write(record)

    def close(self) -> None:
        """Write what was held back, and close the file if it is ours. May be called twice."""
        with self.lock or threading.Lock():
            for summary in self._repeats.due(everything=True):
                self._write(summary)
            if self._path is not None and not self._stream.closed:
                self._stream.close()
        super().close()

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._reopen_if_moved()
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except Exception:  # noqa: BLE001  # boundary: logging must never break the code that logs
            self.lost += 1

    def _reopen_if_moved(self) -> None:
        if self._path is None or self._stream.closed:
            return
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        here = os.fstat(self._stream.fileno())
        if there is None or (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            self._stream.close()
            self._stream = _open_private(self._path)


def setup(config: LogConfig, stream: TextIO | None = None) -> LogHandler:
    """Send all logging where ``config`` says; called again, replaces what it had set up.

    stream: where lines go when there is no path; standard error when None.
    Returns: the handler; ``close`` it last, so that lines held back are written.
    Raises: ConfigError when the log file cannot be opened. Thread: main.
    """
    try:
        handler = LogHandler(config, stream)
    except OSError as error:
        fault = Fault(f"cannot open the log file {config.path}: {error.strerror}", "worker_logfile or --logfile")
        raise ConfigError([fault]) from error
    root = logging.getLogger()
    for old in list(root.handlers):
        if config.hijack_root or isinstance(old, LogHandler):
            root.removeHandler(old)
            old.close()
    if not root.handlers:
        root.addHandler(handler)
        root.setLevel(config.level.upper())
    return handler


def _formatter(config: LogConfig, stream: TextIO) -> logging.Formatter:
    if config.log_format == "json":
        return JsonFormatter()
    color = config.color
    if color is None:
        color = config.path is None and stream.isatty()
    return ConsoleFormatter(
        color=color,
        fmt=config.fmt,
        datefmt=config.datefmt,
        task_fmt=config.task_fmt,
        task_datefmt=config.task_datefmt,
    )


def _open_private(path: str) -> TextIO:
    # 0600: log lines can name customers; an existing file keeps the mode its owner chose
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")
