"""What goes on from a task to what it calls or what follows it: its priority, and a chord's error callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from opsq import Opsq, chain, chord, group
from opsq.errors import ChordError
from opsq.testing.harness import running_worker
from tests.conftest import MakeApp


def family(app: Opsq) -> tuple[Any, Any]:
    """A task that tells its own priority, and one that calls it and tells that of the child."""

    def priority(self: Any, *_values: Any) -> int:
        return int(self.request.delivery_info["priority"] or 0)

    def calls(self: Any, *_values: Any) -> int:
        child = app.tasks["shop.priority"].delay()
        return int(child.get(timeout=30, disable_sync_subtasks=False))

    return app.task(name="shop.priority", bind=True)(priority), app.task(name="shop.calls", bind=True)(calls)


WORKFLOWS: dict[str, Callable[[Any, Any], Any]] = {
    "a call inside a task": lambda priority, calls: calls.s(),
    "the next step of a chain": lambda priority, calls: chain(calls.s(), priority.s()),
    "the body of a chord": lambda priority, calls: chord([priority.s(), priority.s()], priority.s()),
    "a group in a chain": lambda priority, calls: chain(priority.s(), group(priority.s(), priority.s()), priority.s()),
}


@pytest.mark.parametrize("shape", WORKFLOWS)
def test_a_priority_goes_on_where_that_is_asked_for(shape: str, make_app: MakeApp) -> None:
    app = make_app(task_inherit_parent_priority=True)
    workflow = WORKFLOWS[shape](*family(app))
    with running_worker(app, pool="threads", concurrency=2):
        assert workflow.apply_async(priority=7).get(timeout=30) == 7


def test_a_priority_does_not_go_on_by_itself(make_app: MakeApp) -> None:
    app = make_app()
    priority, calls = family(app)
    with running_worker(app, pool="threads", concurrency=2):
        assert priority.apply_async(priority=7).get(timeout=30) == 7
        assert calls.apply_async(priority=7).get(timeout=30) == 0


@pytest.mark.parametrize("also_header", [True, False])
def test_error_callbacks_of_a_chord_hear_of_its_header_where_that_is_asked_for(
    also_header: bool, make_app: MakeApp
) -> None:
    app = make_app(task_allow_error_cb_on_chord_header=also_header)
    told: list[str] = []

    def fails() -> None:
        raise ValueError("why")

    def heard(request: Any, exc: BaseException, traceback: str) -> None:
        told.append(request.id)

    broken = app.task(name="shop.fails")(fails)
    total = app.task(name="shop.total")(lambda numbers: sum(numbers))
    errback = app.task(name="shop.heard")(heard)
    with running_worker(app, pool="threads", concurrency=2):
        result = chord([broken.s(), broken.s()], total.s()).apply_async(link_error=errback.s())
        with pytest.raises(ChordError):
            result.get(timeout=30)
        members = [member.id for member in result.parent.results] if also_header else []
    assert sorted(told) == sorted([*members, result.id])
