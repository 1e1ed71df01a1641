"""``opsq schedule`` and ``opsq beat --list``, with a beat that runs here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from opsq import Opsq
from opsq.cli.main import cli
from opsq.cli.state import CliState
from opsq.control.schedules import NoBeat, ask
from opsq.core.beat.service import Beat, beat_name, scheduler_class
from opsq.errors import ConfigError, UsageError


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Opsq]:
    found = Opsq("cli", data_dir=str(tmp_path), set_as_current=False, beat_lease_seconds=2)
    found.conf.beat_schedule = {"daily": {"task": "cli.t", "schedule": "@daily", "timezone": "Asia/Kolkata"}}
    yield found
    found.close()


@pytest.fixture
def beat(app: Opsq) -> Iterator[Beat]:
    events = {name: threading.Event() for name in ("leads", "listening", "stopped")}
    running = Beat(app, probe=lambda what: events[what].set())
    running.start()
    assert events["leads"].wait(60)
    assert events["listening"].wait(60)
    yield running
    running.stop()
    assert events["stopped"].is_set()
    assert running.store.leader() is None
    running.store.close()


def run(*words: str) -> Any:
    return CliRunner().invoke(cli, list(words), obj=CliState(), catch_exceptions=False)


def test_a_running_schedule_is_listed_and_changed(app: Opsq, beat: Beat, tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    assert run("schedule", *where, "add", "often", "10m", "cli.t", "args=[1]").output.startswith(
        "often: cli.t, every 10m"
    )
    assert run("schedule", *where, "pause", "daily").output == "daily paused\n"
    listed = json.loads(run("schedule", *where, "list", "--json").output)
    assert [(line["name"], line["paused"]) for line in listed["lines"]][-2:] == [("daily", True), ("often", False)]
    assert listed["leader"]["holder"].startswith("beat@")
    with pytest.raises(UsageError, match="no entry 'x'"):
        ask(app.control, "schedule_run", {"name": "x"})
    sent = ask(app.control, "schedule_run", {"name": "often"})
    assert app.queue_depths(["celery"]) == {"celery": 1}
    assert len(sent["id"]) == 36
    # It answers no ping, so that it is not taken for a worker.
    assert app.control.ping(timeout=0.2) == []


def test_nobody_answers(app: Opsq) -> None:
    with pytest.raises(NoBeat, match="start one"):
        ask(app.control, "schedule_list", {}, 0.1)


def test_names_of_beats() -> None:
    assert beat_name("beat@x") == "beat@x"
    assert beat_name("web@x") == "beat@web@x"


def test_what_is_no_scheduler() -> None:
    with pytest.raises(ConfigError, match="subclass"):
        scheduler_class(dict)


def test_the_next_ticks_are_listed(beat: Beat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listed_app.py").write_text(
        "from opsq import Opsq\n"
        f"app = Opsq('listed', set_as_current=False, data_dir={str(tmp_path)!r})\n"
        "app.conf.beat_schedule = {'daily': {'task': 'cli.t', 'schedule': '@daily', 'timezone': 'Asia/Kolkata'}}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    done = run("beat", "-A", "listed_app", "--list", "--json", "--count", "2")
    told = json.loads(done.output)
    daily = next(entry for entry in told["entries"] if entry["name"] == "daily")
    assert [each[10:] for each in daily["next"]] == ["T00:00:00+05:30"] * 2
    assert told["leader"].startswith("beat@")
    shown = run("beat", "-A", "listed_app", "--explain").output
    assert "daily: cli.t, 0 0 * * * (Asia/Kolkata)" in shown
