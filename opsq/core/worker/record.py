"""Store what became of a task, in a slot or in the parent: one place that builds the meta."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from opsq.core.backends.address import addressed
from opsq.core.request import Context
from opsq.core.result_store import ResultStore
from opsq.wire.result import ResultMeta
from opsq.wire.states import READY_STATES
from opsq.wire.task import TaskHeaders


class Recorder:
    """Writes task states through the app's result store. Thread: any.

    extended: whether name, arguments, worker, retries and queue are stored too.
    """

    def __init__(self, store: ResultStore, hostname: str, extended: bool) -> None:
        self.enabled = store.enabled
        self._store = store
        self._hostname = hostname
        self._extended = extended

    def write(
        self,
        headers: TaskHeaders,
        state: str,
        result: object,
        *,
        traceback: str | None = None,
        request: Context | None = None,
        store: ResultStore | None = None,
        reply_to: str | None = None,
    ) -> None:
        """Store ``state`` of the task that ``headers`` name; a SUCCESS that is there stays.

        result: a value, or an exception for exception states. request: gives children, arguments
        and queue. store: of the task itself, when it has one. reply_to: where results that
        are messages go, for a task that does not run here.
        Raises: UsageError when the result cannot be written, BackendUnavailable.
        """
        target = store or self._store
        if not target.enabled:
            return
        meta = ResultMeta(
            task_id=headers.id,
            status=state,
            result=result,
            traceback=traceback,
            children=children_of(request.children) if request is not None else None,
            date_done=datetime.now(UTC).isoformat() if state in READY_STATES else None,
            group_id=headers.group,
            parent_id=headers.parent_id,
            extended=self._extended,
            name=headers.task,
            args=request.args if request is not None else None,
            kwargs=request.kwargs if request is not None else None,
            worker=self._hostname,
            retries=headers.retries,
            queue=(request.delivery_info or {}).get("routing_key") if request is not None else None,
            stamped_headers=headers.stamped_headers,
            stamps={name: headers.stamps.get(name) for name in headers.stamped_headers or ()},
        )
        if reply_to is None:
            target.store(meta)
            return
        with addressed(reply_to):
            target.store(meta)


def children_of(results: Sequence[Any]) -> list[Any]:
    """The results of the calls a task made, in wire form."""
    return [result.as_tuple() for result in results]
