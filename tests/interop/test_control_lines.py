"""Every command that Celery supports, as typed: ``opsq control`` to Celery's workers, ``celery control`` to ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from click.testing import CliRunner

from opsq.cli.main import cli
from opsq.cli.state import CliState
from opsq.control.commands import COMMANDS
from tests.interop.peers import HERE, PATIENCE_S, Place, python_of, running_worker

#: Words of the command line, and a part of what a worker must answer; the same whoever asks whom.
INSPECT: Sequence[tuple[tuple[str, ...], str]] = (
    (("ping",), "pong"),
    (("clock",), "clock"),
    (("conf",), "task_default_queue"),
    (("report",), "software"),
    (("stats",), "max-concurrency"),
    (("active",), "[]"),
    (("reserved",), "[]"),
    (("scheduled",), "[]"),
    (("revoked",), "[]"),
    (("registered",), "fleet_app.add"),
    (("registered", "acks_late"), "fleet_app.add"),
    (("active_queues",), "routing_key"),
    (("query_task", "nobody"), "{}"),
    (("memsample",), "@here"),  # null without psutil
    (("memdump",), ""),
    (("objgraph",), "objgraph"),
)
CONTROL: Sequence[tuple[tuple[str, ...], str]] = (
    (("rate_limit", "fleet_app.add", "10/m"), "new rate limit set successfully"),
    (("rate_limit", "fleet_app.nobody", "10/m"), "unknown task"),
    (("time_limit", "fleet_app.add", "50", "60"), "time limits set successfully"),
    (("revoke", "some-id"), "flagged as revoked"),
    (("terminate", "KILL", "some-id"), "terminate: tasks unknown"),
    (("revoke_by_stamped_headers", "customer=17"), "flagged as revoked, but not terminated"),
    (("enable_events",), "task events"),
    (("disable_events",), "task events disabled"),
    (("heartbeat",), ""),
    (("pool_grow", "1"), "pool will grow"),
    (("pool_shrink", "1"), "pool will shrink"),
    (("autoscale", "4", "2"), "Autoscale not enabled"),
    (("add_consumer", "lines-more"), "add consumer lines-more"),
    (("cancel_consumer", "lines-more"), "no longer consuming from lines-more"),
    (("pool_restart",), "reload started"),
    (("shutdown",), ""),
)
#: What is asked by programs only, and what is ours.
NOT_TYPED = {"hello", "election", *(name for name, each in COMMANDS.items() if each.origin == "opsq")}
RESTARTS = {"accept_content": ["json"], "worker_pool_restarts": True}


def test_nothing_is_left_out() -> None:
    typed = {words[0] for words, _ in (*INSPECT, *CONTROL)}
    assert typed == COMMANDS.keys() - NOT_TYPED


def test_opsq_steers_a_celery_worker(place: Place) -> None:
    with running_worker(place, "celery", "prefork", settings=RESTARTS) as worker:
        node = "celery-prefork@here"
        for verb, lines in (("inspect", INSPECT), ("control", CONTROL)):
            for words, expected in lines:
                done = ours(place, verb, node, *words)
                said = f"{verb} {' '.join(words)}: {done.return_value} {done.stdout} {done.stderr}"
                assert expected in done.stdout, said
                failed = any(word in expected for word in ("unknown task", "not enabled", "objgraph"))
                assert done.return_value == (1 if failed and '"error"' in done.stdout else 0), said
        worker.process.wait(PATIENCE_S)


def ours(place: Place, verb: str, node: str, *words: str) -> Any:
    """One line of opsq's, in this process."""
    line = [verb, "-b", place.broker, "--json", "-d", node, *words]
    line += [] if words[0] in ("shutdown",) else ["-t", "10"]
    return CliRunner().invoke(cli, line, obj=CliState(), standalone_mode=False)


def test_celery_steers_an_opsq_worker(place: Place) -> None:
    with running_worker(place, "opsq", "prefork", settings=RESTARTS) as worker:
        node = "opsq-prefork@here"
        lines = [(("inspect", "-j", "-t", "10", "-d", node, *words), expected) for words, expected in INSPECT]
        lines += [(("control", "-j", "-t", "10", "-d", node, *words), expected) for words, expected in CONTROL]
        done = subprocess.run(
            [python_of("celery"), str(HERE / "lines_of_celery.py")],
            input=json.dumps([_in_their_words(words) for words, _ in lines]),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 4,
            cwd=place.folder,
            env=place.environment("celery", RESTARTS),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        for (words, expected), (code, output) in zip(lines, found, strict=True):
            assert expected in output, f"{' '.join(words)}: {code} {output}"
        worker.process.wait(PATIENCE_S)


def _in_their_words(words: Sequence[str]) -> list[str]:
    """Celery's command line waits for an answer to ``shutdown``, which nobody gives."""
    return ["1" if "shutdown" in words and word == "10" else word for word in words]


def test_a_celery_worker_does_not_undo_by_itself_and_the_line_says_so(place: Place) -> None:
    with running_worker(place, "celery", "solo"):
        done = ours(place, "control", "celery-solo@here", "rate_limit", "fleet_app.add", "10/m", "--for", "2h")
        assert "does not know --for" in done.stderr
        done = ours(place, "control", "celery-solo@here", "pause", "queue=celery")
        assert "KeyError('pause')" in done.stdout
