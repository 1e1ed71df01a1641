"""Who does what: the queue of waiting jobs, the slots, and the moves between them.

No threads, no waiting and no callbacks in here: what has to be told to the worker is collected in
a ``Turn``. Thread: every method under ``lock``.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from opsq.clock import Clock
from opsq.core.pools.base import Job, Outcome
from opsq.core.pools.prefork_child import EXIT_RECYCLED
from opsq.core.pools.prefork_frames import NowIO
from opsq.core.pools.prefork_oom import OomWatch
from opsq.core.pools.prefork_pace import AHEAD_MAX_JOBS, AHEAD_S, Pace
from opsq.core.pools.prefork_records import Alive, Done, Failed, Leaving, Ready, UpFrame
from opsq.core.pools.prefork_slot import Slot
from opsq.core.pools.verdicts import hard_limit_passed, process_died, runner_broke, terminated

log = logging.getLogger(__name__)

_LEAVE_S: Final = 10.0
"""So long a child that takes no more jobs may take to close its runner."""

_STARTS: Final = 20


class Turn:
    """What one round of moves has to tell the worker, and which slots have promises to keep."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int, float]] = []
        self.outcomes: list[Outcome] = []
        self.filled: list[Slot] = []
        self.warned: list[tuple[int, float]] = []


class Floor:
    """The state of the pool."""

    def __init__(self, clock: Clock) -> None:
        self.lock = threading.Lock()
        self.quiet = threading.Condition(self.lock)
        self.pending: deque[Job] = deque()
        self.slots: dict[int, Slot] = {}
        self.idle: list[Slot] = []
        self.closed = False
        self.stalled = False
        self.serving = False
        self.failure = ""
        # Seconds from asking for a child until it took work, of the last ones.
        self.starts: deque[float] = deque(maxlen=_STARTS)
        self.counts: dict[str, int] = dict.fromkeys(
            (
                "dispatched",
                "ahead",
                "taken_back",
                "lost",
                "hard_limit",
                "soft_limit",
                "terminated",
                "recycled",
                "suspected",
            ),
            0,
        )
        self._clock = clock
        self._io = NowIO()
        self._oom = OomWatch()
        self._pace = Pace()
        self._number = 0

    def fail(self, why: str) -> None:
        """Note that no child can be made; logged unless ``start`` still waits and will raise it."""
        self.failure = why
        if self.serving:
            log.error("%s", why)

    def new_slot(self) -> Slot:
        """Make the worker's side of one more child."""
        self._number += 1
        slot = Slot(self._number, self._io, self._clock.monotonic())
        self.slots[slot.number] = slot
        return slot

    def place(self, job: Job, turn: Turn) -> Slot | None:
        """Promise ``job`` to an idle slot and return it, or let it wait."""
        self.pending.append(job)
        if not self.idle or self.closed:
            return None
        slot = self.idle.pop()
        self._fill(slot, turn)
        return slot

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Put ``jobs`` before everything that waits, in their order."""
        self.pending.extendleft(reversed(list(jobs)))

    def dispatch(self, turn: Turn) -> None:
        """Promise waiting jobs to idle slots while there are both."""
        while self.pending and self.idle and not (self.closed or self.stalled):
            self._fill(self.idle.pop(), turn)

    def flush(self, turn: Turn) -> None:
        """Keep the promises of ``turn``; what finds no room waits again.

        Sets ``stalled`` when nothing could be sent to an idle slot: to be tried again a little later.
        """
        filled, turn.filled = turn.filled, []
        for slot in filled:
            if slot.promised_to is not turn:
                continue  # taken back meanwhile, and perhaps promised something else by another thread
            slot.promised_to = None
            back = slot.flush()
            self.give_back(back)
            for job, exc in slot.unfit:
                turn.outcomes.append(runner_broke(job, self._clock.now(), self._clock.now(), exc))
            slot.unfit.clear()
            if slot.jobs:
                continue
            slot.announced = False
            slot.begin_head(math.inf, 0.0)
            if not back:
                self.rest(slot, turn)
            elif slot.open:
                self.idle.append(slot)
                self.stalled = True

    def rest(self, slot: Slot, turn: Turn) -> None:
        """Find work for ``slot``, or put it among the idle ones."""
        if not slot.open or slot.unsent:
            return  # before the job in hand was announced as started, nothing may be sent
        if self.pending and not self.closed:
            self.unidle(slot)
            self._fill(slot, turn)
        elif not slot.jobs and slot not in self.idle:
            self.idle.append(slot)

    def retire(self, slot: Slot) -> None:
        """Let ``slot`` end after the job it runs; what waits in its inbox goes to others."""
        self.take_back(slot)
        self.unidle(slot)
        slot.dismiss()

    def take_back(self, slot: Slot) -> None:
        """Have what ``slot`` was given and has not begun wait again."""
        head = slot.jobs[0] if slot.jobs else None
        back = slot.take_back()
        if not back:
            return
        self.counts["taken_back"] += len(back)
        self.give_back(back)
        if not slot.jobs or slot.jobs[0] is not head:
            slot.announced = False
            slot.begin_head(self._clock.monotonic(), self._clock.now())
        if not slot.jobs and slot.open and slot not in self.idle:
            # Nothing will ever be heard of a slot that has nothing to do, so it must be found here.
            self.idle.append(slot)

    def replace(self, jobs: Mapping[int, Job], turn: Turn) -> None:
        """Put these in the place of waiting ones of the same keys, also of those in the inboxes of slots."""
        for slot in list(self.slots.values()):
            if any(job.key in jobs for job in slot.jobs):
                self.take_back(slot)
        self.pending = deque(jobs.get(job.key, job) for job in self.pending)
        self.dispatch(turn)

    def unidle(self, slot: Slot) -> None:
        """Strike ``slot`` from the idle ones."""
        if slot in self.idle:
            self.idle.remove(slot)

    def read(self, slot: Slot, turn: Turn) -> int:
        """Take in what ``slot`` has sent; returns how many jobs ended."""
        try:
            return self._absorb(slot, slot.read(), turn)
        except ValueError as exc:
            log.error("a child process sent bytes that are no frame; it is replaced: %s", exc)
            slot.hung_up = True
            slot.signal(signal.SIGKILL)
            return 0

    def bury(self, slot: Slot, code: int | None, turn: Turn) -> bool:
        """Settle what a dead child leaves behind; returns whether nobody had wanted its death.

        code: exit code, or minus a signal; None when only its fork server knew.
        """
        self.read(slot, turn)
        self.take_back(slot)
        for job in slot.jobs:
            self._last_word(slot, job, code, turn)
        slot.jobs.clear()
        self.unidle(slot)
        del self.slots[slot.number]
        slot.close()
        if code == EXIT_RECYCLED:
            self.counts["recycled"] += 1
        self.quiet.notify_all()
        return not (slot.leaving_on_purpose or slot.verdict or code == EXIT_RECYCLED)

    def _last_word(self, slot: Slot, job: Job, code: int | None, turn: Turn) -> None:
        now, since = self._clock.now(), slot.head_since
        if slot.verdict == "given_up":
            self.pending.append(job)
            return
        if not slot.announced:
            turn.started.append((job.key, slot.pid, since))
        if slot.verdict == "hard_limit":
            outcome = hard_limit_passed(job, since, now, slot.pid)
        elif slot.verdict == "terminated":
            outcome = terminated(job, since, now, slot.pid, slot.verdict_signum)
        else:
            starved = self._oom.why() if code == -signal.SIGKILL else ""
            outcome = process_died(job, since, now, slot.pid, how_it_ended(slot.pid, code, starved), code)
        self.counts[outcome.cause] += 1
        turn.outcomes.append(outcome)

    def _absorb(self, slot: Slot, frames: list[UpFrame], turn: Turn) -> int:
        ended = 0
        last_at = 0.0
        for frame in frames:
            if isinstance(frame, Done):
                self._finish(slot, frame, turn)
                ended += 1
                last_at = frame.outcome.finished_at
            elif isinstance(frame, Ready):
                slot.ready = self.serving = True
                self.starts.append(self._clock.monotonic() - slot.made_at)
            elif isinstance(frame, Alive):
                slot.trust()
            elif isinstance(frame, Leaving):
                slot.leaving = slot.leaving_on_purpose = True
                slot.kill_at = self._clock.monotonic() + _LEAVE_S
            elif isinstance(frame, Failed):
                self.fail("a child process could not build its runner: " + frame.text)
        if ended:
            slot.begin_head(self._clock.monotonic(), last_at)
            if not slot.jobs:
                self.quiet.notify_all()
        if slot.leaving:
            self.take_back(slot)
            self.unidle(slot)
        return ended

    def _finish(self, slot: Slot, frame: Done, turn: Turn) -> None:
        outcome = frame.outcome
        if not slot.jobs or slot.jobs[0].key != outcome.key:
            raise ValueError(f"the outcome of job {outcome.key} came from a child that does not run it")
        job = slot.jobs.popleft()
        if not slot.announced:
            turn.started.append((job.key, slot.pid, outcome.started_at))
        slot.announced = False
        slot.done += 1
        slot.work_s = max(0.0, slot.work_s - frame.busy_s) if slot.jobs else 0.0
        self._pace.note(job.task, frame.busy_s)
        turn.outcomes.append(outcome)

    def _fill(self, slot: Slot, turn: Turn) -> None:
        """Promise ``slot`` the next job, or several when they are known to be tiny."""
        tiny_s = self._pace.tiny_s
        jobs: list[Job] = []
        if not slot.jobs:
            jobs.append(self.pending.popleft())
            first_s = tiny_s(jobs[0].task)
            slot.work_s = first_s or 0.0
        else:
            first_s = tiny_s(slot.jobs[0].task)
        if first_s is not None and self.pending:
            jobs += self._ahead(slot, len(slot.jobs) + len(jobs))
        if not jobs:
            return
        if not slot.jobs:
            now = self._clock.now()
            slot.promise(jobs, turn)
            slot.announced = True
            slot.begin_head(self._clock.monotonic(), now)
            turn.started.append((jobs[0].key, slot.pid, now))
        else:
            slot.promise(jobs, turn)
        self.counts["dispatched"] += len(jobs)
        turn.filled.append(slot)

    def _ahead(self, slot: Slot, has: int) -> list[Job]:
        """Pick tiny jobs to lie in the inbox, this slot's fair share of them at most."""
        share = -(-(len(self.pending) + has) // max(1, len(self.slots)))
        room = min(share, AHEAD_MAX_JOBS) - has
        picked: list[Job] = []
        while room > len(picked) and self.pending:
            needs_s = self._pace.tiny_s(self.pending[0].task)
            if needs_s is None or slot.work_s + needs_s > AHEAD_S:
                break
            slot.work_s += needs_s
            picked.append(self.pending.popleft())
        self.counts["ahead"] += len(picked)
        return picked


def how_it_ended(pid: int, code: int | None, starved: str = "") -> str:
    """Say in words how a process ended; ``code`` as in ``Died``; ``starved`` what memory it lacked, if any."""
    if code is None:
        return f"child process {pid} ended with its fork server"
    if code >= 0:
        return f"child process {pid} exited with code {code} while it ran the task"
    try:
        name = f" ({signal.Signals(-code).name})"
    except ValueError:
        name = ""
    because = f": {starved}" if starved else ""
    return f"child process {pid} was killed by signal {-code}{name}{because}"
