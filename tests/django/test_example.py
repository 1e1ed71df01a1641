"""``examples/django`` as its README says: a web server, a worker with the schedule, and what a visitor sees."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.runner import PATIENCE_S, wait_for
from tests.cli.worker_site import until
from tests.django.conftest import ROOT
from tests.servers import free_port

SITE = ROOT / "examples" / "django"


@pytest.fixture
def project(environment: Callable[..., dict[str, str]], tmp_path: Path) -> dict[str, str]:
    found = environment(SHOP_DATA=str(tmp_path / "data"), SHOP_EXPIRE_EVERY_S="0.5", PYTHONUNBUFFERED="1")
    found["DJANGO_SETTINGS_MODULE"] = "project.settings"
    return found


@contextmanager
def running(words: list[str], ready: str, project: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=SITE, env=project, stdout=sink, stderr=subprocess.STDOUT, text=True
        )
    try:
        wait_for(log, ready, process)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=PATIENCE_S) as answer:
        return json.load(answer)


def test_an_order_is_confirmed_after_the_request_and_the_schedule_expires_another(
    project: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run([sys.executable, "manage.py", "migrate"], cwd=SITE, env=project, capture_output=True)
    assert done.returncode == 0, done.stderr
    page = f"127.0.0.1:{free_port()}"
    worker = ["-m", "opsq", "-A", "project", "worker", "-c", "1", "-B"]
    with (
        running(worker, "  ready", project, tmp_path / "worker.log"),
        running(["manage.py", "runserver", "--noreload", page], "Quit the server", project, tmp_path / "web.log"),
    ):
        url = f"http://{page}/orders/"
        paid = ask(url, {"customer": "ada@example.org", "total": 1200})["id"]
        unpaid = ask(url, {"customer": "bob@example.org", "total": 0})["id"]
        until(lambda: len(ask(f"{url}{paid}/")["notes"]) == 2, "the order is confirmed and has its receipt")
        until(lambda: ask(f"{url}{unpaid}/")["state"] == "expired", "the schedule has expired the other")
        told = ask(f"{url}{paid}/")
    assert told["state"] == "confirmed"
    assert told["notes"][0].startswith("confirmed in attempt 1")
    assert told["notes"][1] == "receipt to ada@example.org in attempt 1"
