"""The capability table of a pool, line by line: what it says is so, and what it denies is refused at boot.

Goes beside ``PoolContract``, whose fixtures it uses.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from opsq.core.worker.policy import Policy, check_pool
from opsq.errors import ConfigError
from opsq.testing.contract_pool import MakeBench

PLAIN = Policy(
    task="t",
    acks_late=True,
    acks_on_failure=True,
    acks_on_timeout=True,
    reject_on_worker_lost=True,
    soft_limit_s=None,
    hard_limit_s=None,
    rate_per_s=0.0,
    send_events=True,
    ignore_result=False,
)


class PoolTable:
    """Derive from this and from ``PoolContract``, parametrise ``pool_class``, run."""

    @pytest.mark.parametrize(
        ("wanted", "line"),
        [
            ({"hard_limit_s": 1.0}, "hard_limit"),
            ({"soft_limit_s": 1.0}, "soft_limit"),
            ({"is_async": True}, "coroutines"),
        ],
    )
    def test_what_it_cannot_is_refused_at_boot(self, pool_class: type[Any], wanted: dict[str, Any], line: str) -> None:
        """A task that needs what the pool has not got stops the worker, in a sentence with both names."""
        table = pool_class.capabilities
        policies = [PLAIN, msgspec.structs.replace(PLAIN, task="needy", **wanted)]
        if getattr(table, line):
            check_pool(pool_class.name, table, policies, False)
            return
        with pytest.raises(ConfigError, match=f"the {pool_class.name} pool .*needy"):
            check_pool(pool_class.name, table, policies, False)

    def test_a_broker_that_only_this_process_sees(self, pool_class: type[Any]) -> None:
        """Slots that are processes of their own cannot use the memory broker."""
        table = pool_class.capabilities
        if not table.isolates_crash:
            check_pool(pool_class.name, table, [PLAIN], True)
            return
        with pytest.raises(ConfigError, match="memory broker"):
            check_pool(pool_class.name, table, [PLAIN], True)

    def test_native_async(self, bench: MakeBench, pool_class: type[Any]) -> None:
        """A job runs on an event loop where the table says so, and nowhere else."""
        b = bench()
        assert b.outcome(b.submit("loop")).result_repr == str(pool_class.capabilities.native_async)

    def test_recycles(self, bench: MakeBench, pool_class: type[Any]) -> None:
        """After so many jobs a slot is made anew where the table says so; elsewhere it is the same process."""
        b = bench(slots=1, worker_max_tasks_per_child=2)
        pids = [b.outcome(b.submit("noop")).pid for _ in range(6)]
        assert len(set(pids)) == (3 if pool_class.capabilities.recycles else 1)

    def test_max_slots(self, bench: MakeBench, pool_class: type[Any]) -> None:
        """No more slots than the table allows."""
        b = bench(slots=3)
        assert b.pool.slots == min(3, pool_class.capabilities.max_slots or 3)
