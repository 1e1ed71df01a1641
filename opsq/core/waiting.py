"""Wait for results: subscribe, look, and look again when told; poll only where nobody tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from opsq.core.request import join_is_forbidden
from opsq.core.result_store import ResultStore
from opsq.errors import ResultTimeout
from opsq.wire.result import ResultMeta
from opsq.wire.states import READY_STATES

LONG_S: Final = 3600.0

OnInterval = Callable[[], object]
OnMeta = Callable[[ResultMeta], object]


def refuse_to_block(what: str) -> None:
    """Raise RuntimeError when waiting here would hold a slot that the awaited task may need."""
    if join_is_forbidden():
        raise RuntimeError(
            f"{what} inside a task waits for another task while it holds a slot, which can stop all workers for good; "
            "use a chain or a callback, or wrap it in allow_join_result() when it cannot"
        )


def wait_ready(
    store: ResultStore,
    ids: Sequence[str],
    timeout_s: float | None = None,
    interval_s: float | None = None,
    on_interval: OnInterval | None = None,
    on_meta: OnMeta | None = None,
) -> Iterator[ResultMeta]:
    """Yield the final state of each task as it becomes ready.

    interval_s: how often to look in a store that does not notify, and to call ``on_interval``.
    on_meta: called with every state read, final or not.
    Raises: ResultTimeout after ``timeout_s`` without all of them, ResultsDisabled, BackendUnavailable.
    """
    waiting = dict.fromkeys(ids)
    if not waiting:
        return
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    step_s = interval_s or 0.5
    longest_s = LONG_S if store.backend.capabilities.notifies and on_interval is None else step_s
    with store.subscribe(list(waiting)) as news:
        look_at: Sequence[str] = list(waiting)
        while True:
            for meta in store.load_many(look_at).values():
                if on_meta is not None:
                    on_meta(meta)
                if meta.status in READY_STATES and meta.task_id in waiting:
                    del waiting[meta.task_id]
                    yield meta
            if not waiting:
                return
            left_s = LONG_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise ResultTimeout(_too_long(timeout_s, waiting))
            changed = news.wait(min(left_s, longest_s))
            if on_interval is not None:
                on_interval()
            look_at = list(waiting) if changed is None else [id for id in changed if id in waiting]


def _too_long(timeout_s: float | None, waiting: dict[str, None]) -> str:
    first = next(iter(waiting))
    if len(waiting) == 1:
        return f"task {first} has no result after {timeout_s:g} s"
    return f"{len(waiting)} tasks have no result after {timeout_s:g} s, {first} among them"
