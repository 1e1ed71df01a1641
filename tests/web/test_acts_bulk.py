"""An act on many tasks: the preview says what it would do, the job does that and no more, and can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opsq.cli.hands import FleetHands
from opsq.settings import Settings
from opsq.web.access.door import NOBODY_NEEDED
from opsq.web.acting import By
from opsq.web.bulk import MOST_RUNNING, Asked, Jobs, Progress, TooMuch, preview
from opsq.web.deps import Deps
from opsq.web.hands import CallAgain
from tests.web.world import World

ME = By(NOBODY_NEEDED, "127.0.0.1")
TASKS = 30


def failures() -> World:
    """Thirty failed tasks; of every third the payload is not whole."""
    world = World()
    world.step(1.0)
    for number in range(TASKS):
        at, whole = world.clock.now(), number % 3 != 0
        call = {"name": "shop.mail.send", "queue": "bulk", "retries": 0, "attempt": 1}
        payload = {"payload": f'{{"args":[{number}],"kwargs":{{}}}}', "complete": whole}
        world.tell(
            "task-received", "mail-1", at, f"bulk-{number:02}", args=f"({number},)", kwargs="{}", **call, **payload
        )
        world.tell("task-failed", "mail-1", at + 0.1, f"bulk-{number:02}", exception="E('x')", **call)
        world.step(0.2)
    return world


@pytest.fixture
def deps(tmp_path: Path) -> Iterator[Deps]:
    hands = FleetHands(Settings().replace(data_dir=str(tmp_path / "data")))
    yield replace(failures().deps(), hands=hands)
    hands.close()


def ended(look: Callable[[], Progress]) -> Progress:
    deadline = time.monotonic() + 20
    while (found := look()).state == "running":
        assert time.monotonic() < deadline, found
        threading.Event().wait(0.02)
    return found


def test_the_preview_is_what_happens(deps: Deps) -> None:
    told = preview(deps, Asked(verb="retry", q="queue:bulk state:failed"), ME)
    assert (told.matching, told.looked, told.would) == (30, 30, 20)
    assert told.types == {"shop.mail.send": 20}
    [(reason, count)] = told.left_out.items()
    assert (count, "not whole" in reason) == (10, True)
    assert told.about_s > 0
    job = Jobs(deps).start(Asked(verb="retry", q=told.q, until=told.until), told.matching, ME)
    end = ended(lambda: job.progress(deps.clock.now()))
    assert (end.state, end.done, end.failed, end.left_out) == ("done", 20, 0, told.left_out)
    assert deps.hands is not None
    sent = deps.hands.peek("bulk", 100)
    assert {message.args for message in sent} == {f"({n},)" for n in range(TASKS) if n % 3}
    assert deps.trail is not None
    noted = deps.trail.page(limit=1)[0].entry
    assert (noted.act, noted.outcome, noted.message) == ("tasks-retry", "done", "done: 20 of 30")


def test_chosen_tasks_and_nothing_newer(deps: Deps) -> None:
    chosen = preview(deps, Asked(verb="retry", ids=("bulk-01", "bulk-03", "nobody")), ME)
    assert (chosen.matching, chosen.looked, chosen.would) == (3, 2, 1)
    third = deps.query.task("bulk-03")
    assert third is not None
    older = preview(deps, Asked(verb="retry", q="queue:bulk", until=third.item.key), ME)
    assert older.looked == 4


def test_revoking_leaves_out_what_has_ended(deps: Deps) -> None:
    told = preview(deps, Asked(verb="revoke", q="queue:bulk"), ME)
    assert told.would == 0
    assert told.left_out == {"it has ended": 30}


class Slow:
    """Hands that wait for a word before each call."""

    def __init__(self, hands: Any) -> None:
        self._hands = hands
        self.gate = threading.Semaphore(0)
        self.sent = 0

    def send(self, call: CallAgain) -> str:
        """Send when allowed."""
        self.gate.acquire()
        self.sent += 1
        return str(self._hands.send(call))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hands, name)


def test_a_job_can_be_stopped_and_what_was_done_stays(deps: Deps) -> None:
    slow = Slow(deps.hands)
    jobs = Jobs(replace(deps, hands=slow))
    job = jobs.start(Asked(verb="retry", q="queue:bulk"), 30, ME)
    slow.gate.release(3)
    deadline = time.monotonic() + 20
    while job.progress(deps.clock.now()).done < 3:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    job.stopping.set()
    slow.gate.release(1)  # the one that is under way
    end = ended(lambda: job.progress(deps.clock.now()))
    assert (end.state, end.done, slow.sent) == ("stopped", 4, 4)
    assert jobs.get(job.id) is job


def test_not_more_than_a_few_at_once(deps: Deps) -> None:
    slow = Slow(deps.hands)
    jobs = Jobs(replace(deps, hands=slow))
    running = [jobs.start(Asked(verb="retry", q="queue:bulk"), 30, ME) for _ in range(MOST_RUNNING)]
    with pytest.raises(TooMuch, match="run already"):
        jobs.start(Asked(verb="retry", q="queue:bulk"), 30, ME)
    for job in running:
        job.stopping.set()
    slow.gate.release(2 * MOST_RUNNING)
    for job in running:
        ended(lambda job=job: job.progress(deps.clock.now()))
