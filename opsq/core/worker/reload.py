"""Autoreload: keep a worker running on the code as it is now.

A small process keeps the worker, and does nothing else. When a file of the app changes it starts the next
generation beside the present one; when that one consumes, the old one is told to stop, which gives back what it
has not begun and finishes what runs. So it is the same for every pool, nothing is lost, a long task does not
hold up new code, and code that does not start never takes the place of code that works.

    keeper ─┬─ generation 1   finishing what it runs
            ├─ generation 2   takes tasks
            └─ (waiting)      Python and opsq loaded, the app not yet

``importlib.reload`` was not an option: it leaves old classes alive in whoever imported them, and a module that
fails half-way has replaced half of the old one. See docs/decisions.md.
"""

from __future__ import annotations

import logging
import queue
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from opsq.core.worker.reload_link import Generation, Report
from opsq.core.worker.reload_watch import Watch, edited_since, wrong_syntax
from opsq.errors import ExitCode

log = logging.getLogger(__name__)

MAX_FINISHING: Final = 4
"""So many old generations may still run a task; the next edit then waits for one of them."""

SLOW_S: Final = 10.0
"""A worker that starts for so long is spoken of, again and again: its broker may be away."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)
_Event = Callable[[], None]


class Reloader:
    """Keeps one worker up to date until it is told to stop, or the worker ends by itself.

    command, folder: start a generation, see ``Generation``. chosen, ignored: see ``Watch``. warm: the
    signal that tells a worker to finish what it runs.
    Thread: ``run`` in the main thread; everything happens there.
    """

    def __init__(
        self,
        command: Callable[[int], list[str]],
        folder: str,
        chosen: tuple[str, ...],
        ignored: tuple[str, ...],
        warm: int = signal.SIGTERM,
    ) -> None:
        self._command = command
        self._folder = folder
        self._warm = warm
        self._inbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._watch = Watch(lambda paths: self._inbox.put(lambda: self._edited(paths)), chosen, ignored)
        self._alive: set[Generation] = set()
        self._serving: Generation | None = None
        self._booting: Generation | None = None
        self._waiting: Generation | None = None
        self._wrong: frozenset[str] = frozenset()
        self._postponed = False
        self._stopping = False
        self._began_at = 0.0
        self._exit_code: int = ExitCode.OK

    def run(self) -> int:
        """Keep it running; returns the exit code of the generation that was serving."""
        # A worker under nohup was told to outlive its terminal.
        wanted = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in wanted}
        try:
            self._watch.start()
            self._begin()
            while self._alive:
                self._next()
        finally:
            self._watch.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._exit_code

    def _next(self) -> None:
        try:
            event = self._inbox.get(timeout=SLOW_S)
        except queue.Empty:
            if self._booting is not None and not self._stopping:
                slow = {"pid": self._booting.pid, "for_s": round(time.monotonic() - self._began_at)}
                log.warning("the new worker takes no tasks yet; the code from before goes on meanwhile", extra=slow)
            return
        event()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._inbox.put(lambda: self._signalled(number))

    def _signalled(self, number: int) -> None:
        if number == signal.SIGUSR1 and self._serving is not None:
            self._serving.signal(number)
        elif number == signal.SIGHUP and not sys.stdout.isatty() and not self._stopping:
            self._begin()  # "start again", which a new generation is
        elif number != signal.SIGUSR1:
            self._stop(signal.SIGTERM if number == signal.SIGHUP else number)

    def _stop(self, number: int) -> None:
        """Pass a signal on; what serves and what finishes know what a second one means."""
        self._stopping = True
        for each in tuple(self._alive):
            if each is self._waiting:
                each.finish(self._warm)
            else:
                each.signal(number)

    def _edited(self, paths: frozenset[str]) -> None:
        if self._stopping:
            return
        wrong = wrong_syntax(paths | self._wrong)
        self._wrong = frozenset(wrong)
        for sentence in wrong.values():
            log.error("the code from before this edit goes on: %s", sentence)
        if not wrong:
            log.info("edited", extra={"files": sorted(paths)})
            self._begin()

    def _begin(self) -> None:
        """Start the next generation; one that is still starting has loaded what is old by now."""
        if self._booting is not None:
            self._booting.finish(self._warm)
        if len(self._alive - {self._serving, self._waiting}) >= MAX_FINISHING:
            self._postponed = True
            log.warning("the edit waits for a task of older code to finish", extra={"workers": len(self._alive)})
            return
        self._postponed = False
        self._began_at = time.monotonic()
        self._booting, self._waiting = self._waiting or self._spawn(), None
        self._booting.go()

    def _spawn(self) -> Generation:
        made = Generation(
            self._command,
            self._folder,
            lambda which, report: self._inbox.put(lambda: self._told(which, report)),
            lambda which, code: self._inbox.put(lambda: self._ended(which, code)),
        )
        self._alive.add(made)
        return made

    def _told(self, which: Generation, report: Report) -> None:
        new = self._watch.modules(report.files)
        if report.problem:
            if which is self._booting and self._serving is not None:
                log.error("the code from before this edit goes on: %s", report.problem)
            return
        if which is not self._booting or self._stopping:
            return  # overtaken by a later edit
        old, self._serving, self._booting = self._serving, which, None
        if old is not None:
            old.finish(self._warm)
            took_s = round(time.monotonic() - self._began_at, 2)
            log.info("new tasks run the new code", extra={"pid": which.pid, "started_in_s": took_s})
        if self._waiting is None:
            self._waiting = self._spawn()
        # Of a file that it imported nobody told us before: was it edited while it was not watched yet?
        if missed := edited_since(new, which.went_at):
            self._edited(missed)

    def _ended(self, which: Generation, code: int) -> None:
        self._alive.discard(which)
        if which is self._waiting:
            self._waiting = None
        elif which is self._booting:
            self._booting = None
            if self._serving is None:
                self._give_up(code)
            elif not which.heard:
                log.error("the code from before this edit goes on: the new worker ended with exit code %d", code)
        elif which is self._serving:
            self._serving = None
            self._give_up(code)
        if self._postponed and not self._stopping:
            self._begin()

    def _give_up(self, code: int) -> None:
        """End with ``code``: the worker has ended by itself, or by the signal that was passed on."""
        self._exit_code = code if code >= 0 else 128 - code
        self._stopping = True
        for each in self._alive:
            each.finish(self._warm)


def messages_die_with_the_process(settings: Any) -> bool:
    """Whether the broker keeps its messages in the worker's own memory, which a new generation cannot see."""
    url = settings.resolved_broker_url("read")
    return str(url if isinstance(url, str) else next(iter(url), "")).startswith("memory")
