"""In a real browser, over a real worker: why a task waits, and the remedy that its page offers, pressed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from opsq import Opsq
from opsq.settings import Settings
from tests.chaos.why_site import WhySite
from tests.web.chromium import Chromium, find_chromium
from tests.web.clicking import Hand, running_monitor, until

pytestmark = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason="no Chromium here; CI has one"
)


def test_the_remedy_of_a_busy_queue_is_pressed_and_the_task_starts(tmp_path: Path) -> None:
    broker = f"sqlite:///{tmp_path / 'broker.db'}"
    settings = Settings().replace(broker_url=broker, data_dir=str(tmp_path / "data"), web_port=0)
    with WhySite(broker, tmp_path) as site, running_monitor(settings) as url, Chromium() as browser:
        site.worker("narrow", "line")
        ids = [site.send("line", 60.0) for _ in range(4)]
        browser.look(width=1280)
        hand = Hand(browser, url)
        page = f"why/{ids[-1]}"
        until(lambda: any("only slot of line is busy" in text for text in hand.rows(page, ".diagnosis")), "the cause")
        assert "1 worker did it: pool will grow" in hand.act(page, "Grow the pool")
        until(lambda: running(site.app, ids[1]), "the next task in its new slot")
        assert not [line for line in browser.said if "404" not in line]


def running(app: Opsq, id: str) -> bool:
    """Whether a worker says that it runs this task."""
    answers = app.control.inspect(timeout=0.3).active() or {}
    return id in json.dumps(answers)
