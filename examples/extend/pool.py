"""A pool: threads that let more important work pass, by the operating system's own scheduler.

worker_pool = "examples.extend.pool:NicePool"            (or -P examples.extend.pool:NicePool)

A pool of your own is a class with the methods of ``opsq.core.pools.base.Pool``. This one changes one thing about
a pool that exists; ``opsq/testing/contract_pool.py`` is the suite that any pool must pass.
"""

from __future__ import annotations

import os
from typing import ClassVar

from opsq.core.pools.base import Call, Job, Outcome, PoolConfig, Runner
from opsq.core.pools.threads import ThreadsPool

NICENESS = 10


class NicePool(ThreadsPool):
    """Threads with a lower priority than the rest of the machine. On Linux a thread has a niceness of its own."""

    name: ClassVar[str] = "nice"

    def __init__(self, config: PoolConfig) -> None:
        super().__init__(
            PoolConfig(
                slots=config.slots,
                run=_Nicely(config.run),
                on_started=config.on_started,
                on_outcomes=config.on_outcomes,
                settings=config.settings,
                clock=config.clock,
            )
        )

    def stats(self) -> dict[str, object]:
        """What ``inspect stats`` shows."""
        return {**super().stats(), "niceness": NICENESS}


class _Nicely:
    """A runner that makes its thread nice before the first run."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def run(self, job: Job, call: Call | None = None) -> Outcome:
        """Run ``job``."""
        if os.getpriority(os.PRIO_PROCESS, 0) < NICENESS:
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        return self._runner.run(job, call)

    async def arun(self, job: Job) -> Outcome:
        """Never called: this pool has threads."""
        return await self._runner.arun(job)
