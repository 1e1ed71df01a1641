"""opsq in Django projects. A process belongs to one project for good, so each of these has a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.runner import PATIENCE_S, wait_for
from tests.django.conftest import ROOT
from tests.servers_sql import history_server, new_database

Environment = Callable[..., dict[str, str]]
FULL = os.environ.get("CHAOS") == "full"
PYTHON = os.environ.get("DJANGO_PYTHON", sys.executable)
"""Another interpreter, with another Django."""


def run(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_inside_a_project(environment: Environment) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/django/inside.py"]
    done = run(words, environment())
    assert done.returncode == 0, done.stdout + done.stderr


def test_failing_checks_keep_a_worker_from_starting_unless_skipped(environment: Environment) -> None:
    words = ["-m", "opsq", "worker", "-A", "tests.django.pets.app", "--explain"]
    done = run(words, environment(PETS_ILL="1"))
    assert done.returncode == 2, done.stderr
    assert "a pet is ill (pets.E001)" in done.stderr
    assert "call the vet" in done.stderr
    skipping = [*words, "--skip-checks"] if not FULL else words
    assert run(skipping, environment(PETS_ILL="1", CELERY_SKIP_CHECKS="1" if FULL else "")).returncode == 0


def test_a_project_that_cannot_be_set_up_is_one_sentence(environment: Environment) -> None:
    done = run(
        ["-m", "opsq", "worker", "-A", "tests.django.pets.app"], environment(DJANGO_SETTINGS_MODULE="no.such.settings")
    )
    assert done.returncode == 2, done.stderr
    assert "settings of django.conf:settings cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_of_django_is_loaded_without_a_project(environment: Environment) -> None:
    program = (
        "import sys; from opsq import Opsq; app = Opsq('plain'); app.task(lambda: 1, name='x');"
        "print('django' in sys.modules)"
    )
    plain = environment()
    del plain["DJANGO_SETTINGS_MODULE"]
    assert run(["-c", program], plain).stdout.strip() == "False"


@pytest.mark.skipif(not FULL, reason="starts a PostgreSQL; make chaos runs it")
def test_children_have_database_sessions_of_their_own(environment: Environment, tmp_path: Path) -> None:
    """What the main process opened before the fork is closed before it, and opened again when it is wanted."""
    pytest.importorskip("psycopg")
    held = tmp_path / "held"
    with history_server() as server:
        url = urlsplit(new_database(server))
        database = ",".join((url.username or "", url.hostname or "", str(url.port), url.path.lstrip("/")))
        project = environment(PETS_POSTGRES=database, PETS_HOLD=str(held))
        log = tmp_path / "worker.log"
        with log.open("w") as sink:
            worker = subprocess.Popen(
                [PYTHON, "-m", "opsq", "worker", "-A", "tests.django.pets.app", "-c", "2", "-l", "DEBUG"],
                cwd=ROOT,
                env=project,
                stdout=sink,
                stderr=subprocess.STDOUT,
                text=True,
            )
        try:
            wait_for(log, "  ready", worker)
            ask = (
                "import django; django.setup(); from tests.django.pets.app import app;"
                "from tests.django.pets.tasks import session;"
                "print([session.delay().get(timeout=20)[0] for _ in range(4)])"
            )
            done = run(["-c", ask], project)
            assert done.returncode == 0, done.stderr
        finally:
            worker.terminate()
            worker.wait(PATIENCE_S)
    before, after = held.read_text().split()
    assert not {before, after} & set(re.findall(r"\d+", done.stdout)), log.read_text()
    assert "started afresh" not in log.read_text()
