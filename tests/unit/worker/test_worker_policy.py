"""What is promised for a task: its own word, else the settings'; and what a pool cannot keep is refused."""

from __future__ import annotations

from typing import Any

import pytest

from opsq import Opsq
from opsq.core.pools.greenlets import GreenPool
from opsq.core.pools.registry import POOLS, load_pool
from opsq.core.worker.naming import node_name
from opsq.core.worker.policy import Policies, Policy, check_pool
from opsq.core.worker.worker import Worker
from opsq.errors import ConfigError


def policy(app: Opsq, **options: Any) -> Policy:
    @app.task(name="shop.task", **options)
    def task() -> None:
        """Does nothing."""

    found = Policies(app.tasks, app.settings)("shop.task")
    assert found is not None
    return found


def test_at_least_once_by_default(app: Opsq) -> None:
    found = policy(app)
    assert (found.acks_late, found.reject_on_worker_lost, found.acks_on_failure, found.acks_on_timeout) == (True,) * 4
    assert (found.soft_limit_s, found.hard_limit_s, found.rate_per_s) == (None, None, 0.0)


def test_the_task_wins_over_the_settings(make_app: Any) -> None:
    app = make_app(task_acks_late=False, task_time_limit=30, task_default_rate_limit="5/s")
    assert policy(app, acks_late=True, time_limit=3, rate_limit="1/m").hard_limit_s == 3
    found = Policies(app.tasks, app.settings)("shop.task")
    assert found is not None
    assert (found.acks_late, found.rate_per_s) == (True, pytest.approx(1 / 60))


def test_settings_are_the_default(make_app: Any) -> None:
    app = make_app(task_acks_late=False, task_time_limit=30, task_acks_on_failure_or_timeout=False)
    found = policy(app)
    assert (found.acks_late, found.acks_on_failure, found.acks_on_timeout) == (False, False, False)
    assert found.hard_limit_s == 30


def test_nobody_promises_for_an_unknown_task(app: Opsq) -> None:
    assert Policies(app.tasks, app.settings)("gone") is None


@pytest.mark.parametrize("pool", sorted(POOLS))
@pytest.mark.parametrize("limit", ["time_limit", "soft_time_limit"])
def test_a_pool_keeps_a_limit_or_refuses_it(app: Opsq, pool: str, limit: str) -> None:
    # Not loaded themselves: eventlet, once imported, warns at every later fork of this process.
    made, kind = policy(app, **{limit: 5}), GreenPool if pool in ("gevent", "eventlet") else load_pool(pool)
    able = kind.capabilities.hard_limit if limit == "time_limit" else kind.capabilities.soft_limit
    if able:
        check_pool(pool, kind.capabilities, [made], broker_is_memory=False)
        return
    with pytest.raises(ConfigError, match=rf"the {pool} pool cannot .* set for shop\.task") as refused:
        check_pool(pool, kind.capabilities, [made], broker_is_memory=False)
    assert "\n" not in str(refused.value)


def test_an_unknown_pool(app: Opsq) -> None:
    with pytest.raises(ConfigError, match="asyncio, eventlet, gevent, prefork, solo, threads"):
        Worker(app, pool="treads")


def test_node_names() -> None:
    assert node_name("w1@example.org") == "w1@example.org"
    assert node_name("w1").startswith("w1@")
    assert "%" not in node_name("%n@%d")


def test_explain_names_every_step(app: Opsq) -> None:
    text = Worker(app, pool="threads").explain()
    for step in ("emitter", "executor", "clerk", "settler", "pool", "receiver", "owner", "connection", "consumer"):
        assert step in text
