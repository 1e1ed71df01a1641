"""One act on many tasks: a preview of what it would do, then a job that does it, can be watched, and can be stopped.

The preview fixes what the job works on: the chosen tasks, or everything under the filter up to the newest task there
was, so that what arrives meanwhile is not acted on. Each task is looked at again at its turn: it may have ended.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Final

import msgspec

from opsq.errors import OpsqError
from opsq.events.records import TaskDetail, TaskItem
from opsq.web import hiding
from opsq.web.act_records import DONE, FAILED, Act, Seen
from opsq.web.acting import By, write_down
from opsq.web.acts import BY_NAME
from opsq.web.audit import Entry
from opsq.web.deps import Deps
from opsq.web.hands import CallAgain, Hands, whole_call
from opsq.web.terms import Filter, parse

log = logging.getLogger("opsq.web")

MOST: Final = 10_000
"""Tasks of one job; a filter with more has to be asked again."""
MOST_LOOKED: Final = 2_000
"""Tasks that a preview looks at one by one; of more it says how many it looked at."""
LOOK_S: Final = 0.03
"""And for so long at most."""
CHUNK: Final = 200
KEPT_JOBS: Final = 50
MOST_RUNNING: Final = 4
PER_S: Final = {"revoke": 2_000.0, "retry": 300.0}
"""What is expected of a laptop's broker, until a job's own pace is known."""
FIRST_ROWS: Final = 10


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What to act on. ids: chosen tasks; empty for everything under ``q``. until: the newest row key there was.

    per_s: at most so many tasks a second; None as fast as it goes.
    """

    verb: str
    q: str = ""
    ids: tuple[str, ...] = ()
    until: int | None = None
    per_s: Annotated[float, msgspec.Meta(ge=0.1, le=10_000)] | None = None


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a job would do. matching: tasks meant, at_least: or more. looked: how many were looked at one by one;
    would: of those, acted on. left_out: reason -> how many of those. types: type -> how many of those acted on.
    about_s: how long it would take. until: pass it on, so that the job acts on what was previewed.
    """

    verb: str
    q: str
    ids: tuple[str, ...]
    until: int | None
    matching: int
    at_least: bool
    looked: int
    would: int
    left_out: dict[str, int]
    types: dict[str, int]
    about_s: float
    first: tuple[TaskItem, ...]
    most: int = MOST


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is. state: ``running``, ``done`` or ``stopped``. left_s: about, None while nobody can tell."""

    id: str
    verb: str
    q: str
    who: str
    state: str
    total: int
    seen: int
    done: int
    failed: int
    left_out: dict[str, int]
    began_at: float
    ended_at: float | None = None
    left_s: float | None = None
    first_error: str = ""


class TooMuch(Exception):
    """Too many jobs run already."""


def act_of(verb: str) -> Act:
    """The act on a single task that a job does on many. Raises KeyError."""
    return BY_NAME[f"task-{verb}"]


def preview(deps: Deps, asked: Asked, by: By) -> Preview:
    """Look at what a job would do. Blocks on the store."""
    newest = deps.query.tasks(limit=1, counted=False).items
    until = asked.until if asked.until is not None else (newest[0].key if newest else 0)
    search = _filter(deps, asked, by).search
    page = deps.query.tasks(search, before=until + 1, limit=1) if not asked.ids else None
    matching = len(asked.ids) if page is None else page.total or 0
    left_out: Counter[str] = Counter()
    types: Counter[str] = Counter()
    first: list[TaskItem] = []
    looked = 0
    fixed = msgspec.structs.replace(asked, until=until)
    enough_at = deps.clock.monotonic() + LOOK_S
    for found in _tasks(deps, fixed, by, MOST_LOOKED):
        if looked and deps.clock.monotonic() >= enough_at:
            break
        looked += 1
        reason = _why_not(act_of(asked.verb), found)
        if reason:
            left_out[reason] += 1
            continue
        types[found.item.type or "unknown"] += 1
        if len(first) < FIRST_ROWS:
            first.append(hiding.item(found.item, by.visitor))
    would = looked - left_out.total()
    share = would / looked if looked else 0.0
    expected = min(matching, MOST) * share
    return Preview(
        verb=asked.verb, q=asked.q, ids=asked.ids, until=until, matching=matching, looked=looked, would=would,
        at_least=bool(page and page.at_least), left_out=dict(left_out.most_common()), types=dict(types.most_common(20)),
        about_s=expected / min(PER_S[asked.verb], asked.per_s or math.inf), first=tuple(first),
    )  # fmt: skip


def _filter(deps: Deps, asked: Asked, by: By) -> Filter:
    return hiding.asked_by(parse(asked.q, deps.clock.now()), by.visitor)


def _tasks(deps: Deps, asked: Asked, by: By, most: int) -> Iterator[TaskDetail]:
    """The tasks that were asked for, newest first, each as it is now."""
    for id in _ids(deps, asked, by, most):
        found = deps.query.task(id)
        if found is not None:
            yield found


def _ids(deps: Deps, asked: Asked, by: By, most: int) -> Iterator[str]:
    if asked.ids:
        yield from asked.ids[:most]
        return
    search, left = _filter(deps, asked, by).search, most
    before = None if asked.until is None else asked.until + 1
    while left > 0:
        page = deps.query.tasks(search, before=before, limit=min(CHUNK, left), counted=False)
        yield from (item.id for item in page.items)
        left -= len(page.items)
        if page.older is None:
            return
        before = page.older


def _why_not(act: Act, found: TaskDetail) -> str:
    return act.why_not(Seen(found.item.id, task=found)).partition(":")[0]


@dataclass
class Job:
    """One job. Thread: its own writes, any reads a snapshot under the lock."""

    id: str
    asked: Asked
    by: By
    total: int
    began_at: float
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    state: str = "running"
    seen: int = 0
    done: int = 0
    failed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    first_error: str = ""
    ended_at: float | None = None

    def progress(self, now: float) -> Progress:
        """How far it is."""
        with self.lock:
            pace = self.seen / max(0.001, now - self.began_at)
            left = (self.total - self.seen) / pace if self.state == "running" and pace else None
            return Progress(
                id=self.id, verb=self.asked.verb, q=self.asked.q, who=self.by.visitor.name, state=self.state,
                total=self.total, seen=self.seen, done=self.done, failed=self.failed, left_out=dict(self.left_out),
                began_at=self.began_at, ended_at=self.ended_at, left_s=left, first_error=self.first_error,
            )  # fmt: skip


def _send(hands: Hands, call: CallAgain) -> str:
    hands.send(call)
    return ""


class Jobs:
    """Runs jobs, each in a thread. Thread: any. Of the ended ones the newest are remembered."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def start(self, asked: Asked, total: int, by: By) -> Job:
        """Begin a job on what a preview fixed. Raises TooMuch."""
        job = Job("j-" + secrets.token_hex(6), asked, by, min(total, MOST), self._deps.clock.now())
        with self._lock:
            if sum(each.state == "running" for each in self._jobs.values()) >= MOST_RUNNING:
                raise TooMuch(f"{MOST_RUNNING} such jobs run already; wait for one, or stop it")
            self._jobs[job.id] = job
            for id in [id for id, each in self._jobs.items() if each.state != "running"][: -KEPT_JOBS or None]:
                if len(self._jobs) > KEPT_JOBS:
                    del self._jobs[id]
        threading.Thread(target=self._run, args=(job,), name="opsq-bulk", daemon=True).start()
        return job

    def get(self, id: str) -> Job | None:
        """A job by its id."""
        with self._lock:
            return self._jobs.get(id)

    def _run(self, job: Job) -> None:
        try:
            self._work(job)
        except OpsqError as error:
            with job.lock:
                job.first_error = job.first_error or str(error)[:300]
        except Exception:  # boundary: a job's thread ends here, and its page must not show it running for ever
            log.exception("a bulk job failed", extra={"job": job.id})
            with job.lock:
                job.first_error = job.first_error or "it failed unexpectedly; the monitor's log says more"
        finally:
            with job.lock:
                whole = job.seen >= job.total and not job.first_error
                job.state = "done" if whole or not (job.stopping.is_set() or job.first_error) else "stopped"
                job.ended_at = self._deps.clock.now()
            self._write_down(job)

    def _work(self, job: Job) -> None:
        act, batch = act_of(job.asked.verb), list[TaskDetail]()
        do = self._retry if job.asked.verb == "retry" else self._revoke
        for found in _tasks(self._deps, job.asked, job.by, MOST):
            if job.stopping.is_set() or self._deps.stopping.is_set():
                break
            reason = _why_not(act, found)
            if reason:
                with job.lock:
                    job.left_out[reason] += 1
                    job.seen += 1
                continue
            batch.append(found)
            if len(batch) >= (1 if job.asked.verb == "retry" or job.asked.per_s else CHUNK):
                do(job, batch)
                batch = []
                self._keep_pace(job)
        if batch:
            do(job, batch)

    def _keep_pace(self, job: Job) -> None:
        """Wait until the next task may have its turn; a stop ends the waiting."""
        if job.asked.per_s:
            due_at = job.began_at + (job.done + job.failed) / job.asked.per_s
            job.stopping.wait(max(0.0, due_at - self._deps.clock.now()))

    def _retry(self, job: Job, batch: Iterable[TaskDetail]) -> None:
        hands = self._deps.hands
        assert hands is not None
        for found in batch:
            call = whole_call(found)
            assert isinstance(call, CallAgain), "it was possible a moment ago, and evidence only grows"
            self._counted(job, 1, partial(_send, hands, call))

    def _revoke(self, job: Job, batch: list[TaskDetail]) -> None:
        assert self._deps.hands is not None
        ids = [found.item.id for found in batch]
        hands = self._deps.hands
        up = sum(worker.status in ("online", "late") for worker in self._deps.query.workers())

        def revoke() -> str:
            told = hands.order("revoke", {"task_id": ids, "terminate": False}, (), up)
            return "" if told.by_node or told.kept else "no worker answered in time"

        self._counted(job, len(ids), revoke)

    def _counted(self, job: Job, count: int, do: Callable[[], str]) -> None:
        try:
            problem = do()
        except OpsqError as error:
            problem = str(error)[:300]
        with job.lock:
            job.seen += count
            if problem:
                job.failed += count
                job.first_error = job.first_error or problem
            else:
                job.done += count

    def _write_down(self, job: Job) -> None:
        told = job.progress(self._deps.clock.now())
        kept = f", {told.failed} failed: {told.first_error}" if told.failed or told.first_error else ""
        entry = Entry(
            at=0.0, who=job.by.visitor.name, how=job.by.visitor.how, source=job.by.source, act=f"tasks-{told.verb}",
            target=told.q or f"{len(job.asked.ids)} chosen tasks", outcome=DONE if not told.first_error else FAILED,
            message=f"{told.state}: {told.done} of {told.total}{kept}",
            values={"q": told.q, "until": job.asked.until, "chosen": list(job.asked.ids[:CHUNK])},
            after={"done": told.done, "failed": told.failed, "left_out": told.left_out},
        )  # fmt: skip
        write_down(self._deps, entry)
