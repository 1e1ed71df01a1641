"""Each cause made for real, with real workers: the monitor tells the right one in time, and so does ``opsq why``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.why_site import BOUND_S, WhySite
from tests.servers import redis_server

FULL = os.environ.get("CHAOS") == "full"
HELD_S = 60.0


@contextmanager
def broker_url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """A broker of our own."""
    if request.param == "sqlite":
        yield f"sqlite:///{folder / 'broker.db'}"
        return
    if request.param == "rabbitmq":
        yield request.getfixturevalue("rabbitmq").url
        return
    with redis_server(folder) as server:
        yield server.url


BROKERS = ("sqlite", "redis", "rabbitmq") if FULL else ("sqlite",)


@pytest.fixture(scope="module", params=BROKERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhySite]:
    """A broker, a monitor, a busy worker with one slot, a free one with two, and one that will be killed."""
    folder = tmp_path_factory.mktemp(f"why-{request.param}")
    with broker_url(request, folder) as url, WhySite(url, folder) as site:
        site.monitor()
        site.worker("one", "narrow")
        site.worker("two", "wide", slots=2)
        site.worker("three", "lonely")
        site.up("one", "two", "three")
        for _ in range(4):
            site.send("narrow", 0.01)
        yield site


def no_consumer(site: WhySite) -> tuple[str, str]:
    """Nobody takes from its queue."""
    return site.send("nobody", 1), "nobody"


def slots_busy(site: WhySite) -> tuple[str, str]:
    """The only slot runs something long, and one more is held ready."""
    ids = [site.send("narrow", HELD_S) for _ in range(4)]
    return ids[-1], "nap"


def prefetched(site: WhySite) -> tuple[str, str]:
    """The one that is held ready behind the running one."""
    tasks = site.until("a task held ready", lambda: held_ready(site))
    return str(tasks), "behind"


def held_ready(site: WhySite) -> str | None:
    answers = site.app.control.inspect(timeout=0.3, destination=["one@here"]).reserved() or {}
    return next((each["id"] for each in answers.get("one@here", ())), None)


def eta(site: WhySite) -> tuple[str, str]:
    """It is held for its time."""
    return site.send("wide", 1, countdown=300), "held for its ETA"


def rate_limit(site: WhySite) -> tuple[str, str]:
    """The third of a type that starts every 15 seconds."""
    return [site.send("wide", task="why_app.rarely") for _ in range(3)][-1], "4/m"


def revoked(site: WhySite) -> tuple[str, str]:
    """It waits behind others, and was revoked."""
    id = site.send("narrow", 1)
    site.app.control.revoke(id)
    return id, "revoked"


def unknown_name(site: WhySite) -> tuple[str, str]:
    """No worker of its queue has a task of its name; it waits where none has come to it yet."""
    return site.send("narrow", 1, task="why_app.forgotten"), "forgotten"


def unknown_name_taken(site: WhySite) -> tuple[str, str]:
    """The same, when a worker has come to it and refused."""
    return site.send("wide", 1, task="why_app.forgotten"), "forgotten"


def paused(site: WhySite) -> tuple[str, str]:
    """A standing order holds its queue."""
    site.app.control.pause(queue="halted", for_s=300)
    return site.send("halted", 1), "paused"


def worker_died(site: WhySite) -> tuple[str, str]:
    """Its worker was killed while it ran it, and no other takes from its queue."""
    id = site.send("lonely", HELD_S)
    site.until("the task to run", lambda: state(site, id) == "STARTED")
    site.kill("three")
    return id, "died"


CAUSES: dict[str, tuple[str, Callable[[WhySite], tuple[str, str]]]] = {
    "no consumer": ("no-consumer", no_consumer),
    "all slots busy": ("slots-busy", slots_busy),
    "prefetched": ("prefetched", prefetched),
    "held for its ETA": ("eta", eta),
    "rate limit": ("rate-limit", rate_limit),
    "revoked": ("revoked", revoked),
    "name unknown": ("unknown-name", unknown_name),
    "name unknown, taken": ("unknown-name", unknown_name_taken),
    "paused": ("paused", paused),
    "worker died": ("worker-died", worker_died),
}
#: Asked on the command line too; the others are with CHAOS=full.
ASKED = frozenset(CAUSES) if FULL else frozenset({"all slots busy", "revoked"})


@pytest.mark.parametrize("name", CAUSES)
def test_the_right_cause_is_told_in_time(site: WhySite, name: str, request: pytest.FixtureRequest) -> None:
    cause, make = CAUSES[name]
    id, words = make(site)
    answer, after_s = site.explained(id, cause)
    note(request, name, after_s)
    assert after_s < BOUND_S
    assert words in answer["sentence"], answer["sentence"]
    verdicts = {check["cause"]: check["answer"] for check in answer["checks"]}
    assert len(verdicts) == 9
    assert answer["waits"]
    if name in ASKED:
        told, code = site.asked(id)
        assert (told["cause"], code) == (cause, 1), told


def note(request: pytest.FixtureRequest, name: str, after_s: float) -> None:
    """Keep the figure where ``WHY_FIGURES`` says, for the table of the manual."""
    path = os.environ.get("WHY_FIGURES")
    if path:
        broker = request.node.callspec.params["site"]
        with Path(path).open("a") as file:
            file.write(json.dumps({"broker": broker, "cause": name, "after_s": round(after_s, 2)}) + "\n")


def test_what_ran_and_what_nobody_knows(site: WhySite) -> None:
    id = site.send("wide", 0.01)
    site.until("its end", lambda: state(site, id) == "SUCCESS")
    told, code = site.asked(id[:13])
    assert (told["task"], told["waits"], code) == (id, False, 0)
    assert told["sentence"].startswith("It ran: it succeeded on two@here")
    nothing, code = site.asked("00000000-0000-4000-8000-000000000000", *(() if FULL else ("--no-ask",)))
    assert (nothing["error"], code) == ("no such task", 69)


def state(site: WhySite, id: str) -> str:
    """The state of a task by the monitor, empty while it knows none."""
    found = site.read(f"/api/v1/tasks/{id}")
    return str(found["task"]["item"]["state"]) if found else ""


@pytest.mark.skipif(not FULL, reason="measures for half a minute; CHAOS=full runs it")
@pytest.mark.parametrize("grown", [0, 2])
def test_the_forecast_is_near(site: WhySite, grown: int, request: pytest.FixtureRequest) -> None:
    """Of a line of tasks of a known length, the last starts about when it was told, also after the pool has grown."""
    queue = f"line-{grown}"
    site.worker(f"line{grown}", queue)
    site.up(f"line{grown}")
    for _ in range(20):
        known = site.send(queue, 0.3, task="why_app.nap_evenly")
    site.until("runs to learn from", lambda: state(site, known) == "SUCCESS")
    ids = [site.send(queue, 0.3, task="why_app.nap_evenly") for _ in range(40)]
    site.until("the last published", lambda: state(site, ids[-1]) == "PENDING")
    answer, _ = site.explained(ids[-1], "slots-busy")
    began = time.time()
    told_s = answer["forecast"]["starts_in_s"]
    if grown:
        remedy = next(each for each in answer["remedies"] if each["act"] == "worker-grow")
        site.app.control.pool_grow(int(remedy["command"].split()[-1]), destination=[remedy["target"]], reply=True)
        told_s = remedy["starts_in_s"]
    site.until("its start", lambda: state(site, ids[-1]) in ("STARTED", "SUCCESS"))
    started_at = site.read(f"/api/v1/tasks/{ids[-1]}")["task"]["item"]["started_at"]
    note(request, f"forecast, {grown} slots more: told {told_s:.1f} s, was", started_at - began)
    assert told_s == pytest.approx(started_at - began, rel=0.5, abs=1.5)
