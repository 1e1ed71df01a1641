"""A pool under test, with a listener that can be waited for."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from opsq.core.pools.base import Job, Outcome, PoolConfig
from opsq.core.pools.prefork import PreforkPool

STUB = "prefork_stub:build"
PATIENCE_S = 60.0


class Harness:
    """Makes pools and jobs, and collects what the pools report."""

    def __init__(self) -> None:
        self.heard = threading.Condition()
        self.outcomes: dict[int, Outcome] = {}
        self.doubles: list[Outcome] = []
        self.warned: dict[int, float] = {}
        self.started: list[tuple[int, int, float]] = []
        self.order: list[tuple[str, int]] = []
        self.pools: list[PreforkPool] = []
        self._key = 0
        self._others = {child.pid for child in psutil.Process().children()}

    def family(self) -> list[psutil.Process]:
        """The processes below this one that began after the harness; other tests' servers are not ours to touch."""
        found: list[psutil.Process] = []
        for child in psutil.Process().children():
            if child.pid not in self._others:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += [child, *child.children(recursive=True)]
        return found

    def pool(self, slots: int = 2, setup: Any = STUB, start: bool = True, **settings: Any) -> PreforkPool:
        """Make a pool that ends with the test."""
        config = PoolConfig(
            slots=slots,
            run=None,  # type: ignore[arg-type]  # the worker's own runner is never used by this pool
            on_started=self._on_started,
            on_outcomes=self._on_outcomes,
            on_soft_limit=self.warned.__setitem__,
            settings=settings,
            child_setup=setup,
            extra={"start_timeout_s": PATIENCE_S},
        )
        pool = PreforkPool(config)
        self.pools.append(pool)
        if start:
            pool.start()
        return pool

    def job(
        self, task: str, arg: Any = None, body: bytes = b"", soft: float | None = None, hard: float | None = None
    ) -> Job:
        """Make a job with the next key."""
        self._key += 1
        return Job(
            key=self._key,
            id=f"id-{self._key}",
            task=task,
            headers={"arg": arg},
            body=body,
            content_type="application/json",
            content_encoding="utf-8",
            properties={},
            delivery_info={},
            soft_limit_s=soft,
            hard_limit_s=hard,
        )

    def outcome(self, job: Job) -> Outcome:
        """Wait for the outcome of ``job``."""
        self.until(lambda: job.key in self.outcomes, f"the outcome of {job.task}")
        return self.outcomes[job.key]

    def until(self, met: Callable[[], bool], what: str) -> None:
        """Wait for a condition that reports can change."""
        with self.heard:
            if not self.heard.wait_for(met, PATIENCE_S):
                raise AssertionError(f"{what} did not come within {PATIENCE_S} s")

    def begun(self, job: Job) -> int:
        """Wait until a ``when_told`` job runs; returns its pid."""
        return int(self.read_when_there(Path(job.headers["arg"] + ".begun")))

    def go(self, job: Job) -> Outcome:
        """Let a ``when_told`` job end; returns its outcome."""
        Path(job.headers["arg"] + ".go").touch()
        return self.outcome(job)

    def probe(self, met: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> Any:
        """Ask about something outside this process until it is true; returns the answer."""
        until = time.monotonic() + within_s
        pause = threading.Event()
        while True:
            value = met()
            if value:
                return value
            if time.monotonic() > until:
                raise AssertionError(f"{what} did not come within {within_s} s")
            pause.wait(0.005)

    def read_when_there(self, path: Path) -> str:
        """Wait until ``path`` has content."""
        return str(self.probe(lambda: path.exists() and path.read_text(), str(path)))

    def gone(self, pid: int) -> bool:
        """Say whether no process ``pid`` runs any more."""
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def pids(self, pool: PreforkPool) -> list[int]:
        """The children of ``pool`` right now."""
        pids = pool.stats()["processes"]
        assert isinstance(pids, list)
        return pids

    def full(self, pool: PreforkPool, slots: int) -> list[int]:
        """Wait until ``pool`` has exactly ``slots`` living children; returns their pids."""

        def living() -> list[int]:
            pids = [pid for pid in self.pids(pool) if not self.gone(pid)]
            return pids if len(pids) == slots else []

        found = self.probe(living, f"{slots} children")
        assert isinstance(found, list)
        return found

    def _on_started(self, key: int, pid: int, at: float) -> None:
        with self.heard:
            self.started.append((key, pid, at))
            self.order.append(("started", key))
            self.heard.notify_all()

    def _on_outcomes(self, outcomes: list[Outcome]) -> None:
        with self.heard:
            for outcome in outcomes:
                if outcome.key in self.outcomes:
                    self.doubles.append(outcome)
                self.outcomes[outcome.key] = outcome
                self.order.append(("outcome", outcome.key))
            self.heard.notify_all()


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    made = Harness()
    yield made
    for pool in made.pools:
        pool.stop(time.monotonic() + 2)
    left = made.family()
    assert not left, f"processes left behind: {left}"
    assert not made.doubles, f"two outcomes for one job: {made.doubles}"
    assert "prefork_stub" not in sys.modules, "the worker itself must not need the app's child side"
