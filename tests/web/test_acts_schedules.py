"""The acts of the Schedules page against a beat that runs: what is done to an entry, and what the page shows then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.cli.hands import FleetHands
from opsq.core.beat.service import Beat
from opsq.web.access.door import NOBODY_NEEDED
from opsq.web.acting import By, perform
from opsq.web.acts import ACTS, BY_NAME
from opsq.web.app import create_app
from opsq.web.deps import Deps
from tests.web.conftest import Get, client_of
from tests.web.world import World

ME = By(NOBODY_NEEDED, "127.0.0.1")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Opsq]:
    found = Opsq("shop", data_dir=str(tmp_path), set_as_current=False, beat_lease_seconds=2)
    found.conf.beat_schedule = {"daily": {"task": "shop.report", "schedule": "@daily"}}
    yield found
    found.close()


@pytest.fixture
def deps(app: Opsq, world: World) -> Iterator[Deps]:
    """A monitor beside a beat, which leads."""
    events = {name: threading.Event() for name in ("leads", "listening", "stopped")}
    beat = Beat(app, probe=lambda what: events[what].set())
    beat.start()
    assert events["leads"].wait(20)
    assert events["listening"].wait(20)
    hands = FleetHands(app.settings)
    yield replace(world.deps(), hands=hands)
    hands.close()
    beat.stop()
    beat.store.close()


def did(deps: Deps, act: str, name: str, **given: str) -> Any:
    """What an act of the page came to."""
    return perform(deps, BY_NAME[f"schedule-{act}"], name, given, ME)


def shown(deps: Deps, name: str) -> Any:
    """An entry as the monitor knows it."""
    assert deps.hands is not None
    return {entry.name: entry for entry in deps.hands.timetable().entries}.get(name)


def test_an_entry_is_added_changed_paused_resumed_run_and_removed(app: Opsq, deps: Deps) -> None:
    ask: Get = client_of(create_app(deps))
    added = did(deps, "add", "often", schedule="10m", task="shop.poll", args="[7]")
    assert (added.outcome, shown(deps, "often").task) == ("done", "shop.poll")
    assert "every 10m" in ask("/schedules/often").text

    assert did(deps, "edit", "often", schedule="20m").outcome == "done"
    assert (shown(deps, "often").schedule, shown(deps, "often").args) == ("every 20m", "(7,)")

    assert did(deps, "pause", "often").outcome == "done"
    assert shown(deps, "often").paused
    assert did(deps, "pause", "often").message == "it is paused already"
    assert did(deps, "resume", "often").outcome == "done"
    assert not shown(deps, "often").paused

    assert app.queue_depths(["celery"]).get("celery", 0) == 0
    assert did(deps, "run", "often").outcome == "done"
    assert app.queue_depths(["celery"]) == {"celery": 1}

    assert did(deps, "remove", "often", confirm="often").outcome == "done"
    assert shown(deps, "often") is None
    assert did(deps, "run", "often").message == "the schedule has no such entry"
    assert "from the code" in did(deps, "remove", "daily", confirm="daily").message
    assert shown(deps, "daily") is not None


def test_every_act_of_a_schedule_is_done_above() -> None:
    found = {act.name for act in ACTS if act.path.startswith("/schedules/")}
    assert found == {f"schedule-{verb}" for verb in ("add", "edit", "pause", "resume", "run", "remove")}
