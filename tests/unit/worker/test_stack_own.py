"""What is shown of a stack: the task's own frames, without what called them."""

from __future__ import annotations

from opsq.core.worker.stack_own import OURS, RUNNER, is_ours, own_from

POOL, LIBRARY, TASK = f"{OURS}core/pools/threads.py", "/usr/lib/python3/threading.py", "/srv/shop/tasks.py"
CANVAS = f"{OURS}core/builtin_canvas.py"


def test_what_called_the_task_is_left_out() -> None:
    stack = [LIBRARY, POOL, RUNNER, POOL, TASK, LIBRARY]
    assert stack[own_from(stack) :] == [TASK, LIBRARY]


def test_what_the_task_calls_of_ours_stays() -> None:
    stack = [POOL, RUNNER, TASK, f"{OURS}core/result.py", LIBRARY]
    assert stack[own_from(stack) :] == [TASK, f"{OURS}core/result.py", LIBRARY]


def test_a_task_of_ours_is_shown_too() -> None:
    assert own_from([POOL, RUNNER, CANVAS]) == 2
    assert own_from([POOL, RUNNER]) == 1


def test_a_stack_without_a_task_is_shown_whole() -> None:
    assert own_from([LIBRARY, TASK]) == 0
    assert own_from([]) == 0


def test_threads_of_ours_are_known() -> None:
    assert is_ours([LIBRARY, f"{OURS}core/worker/emit.py", LIBRARY])
    assert not is_ours([LIBRARY, TASK])
    assert not is_ours([LIBRARY, POOL, RUNNER, TASK])
