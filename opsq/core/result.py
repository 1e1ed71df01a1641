"""The handle of a result: ask, wait, walk to its parent and children.

``get()`` waits to be woken where the store can notify. A final state is remembered by the handle, so
asking again costs nothing; anything else is read anew each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opsq.core.parents import watching
from opsq.core.registry import PROCESS
from opsq.core.result_store import meta_as_dict, value_of
from opsq.core.result_tree import graph_of, ids_around, walk
from opsq.core.waiting import refuse_to_block, wait_ready
from opsq.errors import MalformedMessage
from opsq.wire.result import ResultMeta, parse_ref
from opsq.wire.states import FAILURE, PROPAGATE_STATES, READY_STATES, SUCCESS

if TYPE_CHECKING:
    from opsq.core.app import Opsq
    from opsq.core.result_set import GroupResult
    from opsq.core.result_store import ResultStore

R = TypeVar("R", covariant=True)
Callback = Callable[[Any], object]


class AsyncResult(Generic[R]):
    """The result of one call, here or not yet.

    id: of the call. parent: the handle of the call before it in a chain.
    Thread: any; one thread waits.
    """

    backed = True
    """Whether the result store knows of it; a result that was made here is not asked for there."""

    def __init__(
        self,
        id: str,
        backend: ResultStore | None = None,
        task_name: str | None = None,
        app: Opsq | None = None,
        parent: Any = None,
    ) -> None:
        self.id = id
        self.task_name = task_name
        self._app = app
        self._store = backend
        self._parent = parent
        self._final: ResultMeta | None = None
        self._callbacks: deque[tuple[Callback, Callback | None]] = deque()
        self._ignored: bool | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __str__(self) -> str:
        return self.id

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return (AsyncResult, (self.id, None, self.task_name, None, self._parent))

    def __copy__(self) -> AsyncResult[R]:
        return AsyncResult(self.id, self._store, self.task_name, self._app, self._parent)

    @property
    def app(self) -> Opsq:
        """The app whose result store is asked. Raises: UsageError when there is none."""
        return self._app or PROCESS.current()

    @property
    def backend(self) -> ResultStore:
        """The result store."""
        return self._store or self.app.backend

    @property
    def task_id(self) -> str:
        """The id, by its longer name."""
        return self.id

    @property
    def ignored(self) -> bool:
        """Whether the call stores no result, as far as this handle knows."""
        return bool(self._ignored)

    @ignored.setter
    def ignored(self, value: bool) -> None:
        self._ignored = value

    @property
    def state(self) -> str:
        """The state now; PENDING also means that the id is not known."""
        return self._meta().status

    status = state

    @property
    def result(self) -> Any:
        """The value, the exception (as an object), or what the task stored as its state's meta."""
        return value_of(self._meta())

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failure, as text."""
        return self._meta().traceback

    @property
    def children(self) -> list[AsyncResult[Any] | GroupResult] | None:
        """Handles of the calls that this one made; none while it is not known."""
        listed = self._meta().children
        if listed is None:
            return None
        return [self._from_ref(child) for child in listed]

    @property
    def parent(self) -> Any:
        """The handle of the call before it, where that is known."""
        if self._parent is None and self._final is not None and self._final.parent_id not in (None, self.id):
            self._parent = AsyncResult(str(self._final.parent_id), self._store, app=self._app)
        return self._parent

    @parent.setter
    def parent(self, value: Any) -> None:
        self._parent = value

    @property
    def date_done(self) -> datetime | None:
        """When it ended, aware; none before."""
        text = self._meta().date_done
        if text is None:
            return None
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    @property
    def name(self) -> str | None:
        """Name of the task, with ``result_extended``."""
        return self._meta().name

    @property
    def args(self) -> Any:
        """Arguments, with ``result_extended``."""
        return self._meta().args

    @property
    def kwargs(self) -> Any:
        """Keyword arguments, with ``result_extended``."""
        return self._meta().kwargs

    @property
    def worker(self) -> str | None:
        """Node name of the worker, with ``result_extended``."""
        return self._meta().worker

    @property
    def retries(self) -> int | None:
        """Retries, with ``result_extended``."""
        return self._meta().retries

    @property
    def queue(self) -> str | None:
        """Queue, with ``result_extended``."""
        return self._meta().queue

    def exists(self) -> bool:
        """Whether anything is stored under this id."""
        return self._final is not None or self.backend.exists(self.id)

    def ready(self) -> bool:
        """Whether it has ended: succeeded, failed or revoked."""
        return self.state in READY_STATES

    def successful(self) -> bool:
        """Whether it has ended well."""
        return self.state == SUCCESS

    def failed(self) -> bool:
        """Whether it has failed."""
        return self.state == FAILURE

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], object] | None = None,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait for the end and return the value, or raise what the task raised.

        timeout: seconds; none waits for ever. propagate: raise the task's error; otherwise return it.
        A call whose result is ignored gives none at once.
        interval: seconds between looks, only in a store that does not notify. follow_parents: raise a
        failed parent's error as well. callback: called with (id, value).
        Raises: ResultTimeout, RuntimeError inside a task, ResultsDisabled, BackendUnavailable.
        """
        if self._ignored:
            # Nothing will ever be stored, so waiting would never end.
            return None  # type: ignore[return-value]  # as Celery
        if disable_sync_subtasks:
            refuse_to_block("get()")
        if follow_parents and propagate:
            self._raise_for_parents()
            on_interval = watching(self, on_interval)
        meta = self._final or self._wait(timeout, interval, on_interval, on_message)
        if propagate:
            self._raise_for(meta, callback)
        value = value_of(meta)
        if callback is not None:
            callback(self.id, value)
        return value  # type: ignore[no-any-return]  # what the task returned, or its error

    wait = get

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None) -> Any:
        """Return the value now, raising the task's error when it ended badly."""
        meta = self._meta()
        if propagate:
            self._raise_for(meta, callback)
        value = value_of(meta)
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def then(self, callback: Callback, on_error: Callback | None = None, weak: bool = False) -> AsyncResult[R]:
        """Call ``callback`` with this handle once it is seen to have succeeded, ``on_error`` otherwise.

        At once when it has ended; else by whatever call on this handle sees the end: ``get``,
        ``ready``, ``state``. No thread is started for it.
        """
        self._callbacks.append((callback, on_error))
        if self._final is not None or self.backend.exists(self.id):
            self._meta()
            self._call_back()
        return self

    def forget(self) -> None:
        """Delete what is stored; the parents' as well."""
        ids = [self.id]
        self._final = None
        node = self._parent
        while node is not None and node.id not in ids:
            # The results before a chord's body are a group's.
            ids.extend([node.id] if isinstance(node, AsyncResult) else [each.id for each in node._plain_results()])
            node = node.parent if not isinstance(node, AsyncResult) else node._parent
        self.backend.forget(ids)

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
        graph: bool = False,
    ) -> Any:
        """Ask all workers not to run it; with ``wait``, return their answers. connection: not needed.

        graph: nor anything else of its workflow that is known: what comes before it, what it called.
        """
        return self.app.control.revoke(
            ids_around(self) if graph else self.id,
            terminate=terminate,
            signal=signal or "SIGTERM",
            reply=wait,
            timeout=timeout or 1.0,
        )

    def as_tuple(self) -> tuple[Any, Any]:
        """The handle as plain data, ``((id, parent), None)``, for ``result_from_tuple``."""
        parent = self._parent
        return (self.id, parent.as_tuple() if parent is not None else None), None

    def as_list(self) -> list[str]:
        """The ids of this and all its parents, own id first."""
        ids, node = [self.id], self._parent
        while node is not None and node.id not in ids:
            ids.append(node.id)
            node = node._parent if isinstance(node, AsyncResult) else node.parent
        return ids

    def get_leaf(self) -> Any:
        """The value of the last call that descends from this one."""
        leaf = None
        for _result, value in self.collect():
            leaf = value
        return leaf

    def collect(self, intermediate: bool = False, **waiting: Any) -> Iterator[tuple[Any, Any]]:
        """Wait for this and everything it called; yields (handle, value), parents first."""
        for _parent, result in self.iterdeps(intermediate=intermediate):
            yield result, result.get(**waiting)

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Walk over this and everything it called; yields (parent, handle).

        intermediate: go on past calls that have not ended. Raises: IncompleteStream otherwise.
        """
        return walk(self, intermediate)

    def build_graph(self, intermediate: bool = False) -> dict[Any, list[Any]]:
        """What called what, as a table of handle to handles."""
        return graph_of(self, intermediate)

    @property
    def graph(self) -> dict[Any, list[Any]]:
        """What called what; needs every call to have ended."""
        return self.build_graph()

    def _wait(
        self,
        timeout: float | None,
        interval: float,
        on_interval: Callable[[], object] | None,
        on_message: Callable[[dict[str, Any]], object] | None,
    ) -> ResultMeta:
        on_meta = None if on_message is None else lambda meta: on_message(meta_as_dict(meta))
        for meta in wait_ready(self.backend, [self.id], timeout, interval, on_interval, on_meta):
            self._keep(meta)
        return self._meta()

    def _meta(self) -> ResultMeta:
        if self._final is None:
            self._keep(meta := self.backend.load(self.id))
            return meta
        return self._final

    def _keep(self, meta: ResultMeta) -> None:
        """Remember a final state, and call back whoever asked for it."""
        if meta.status in READY_STATES:
            self._final = meta
            self._call_back()

    def _call_back(self) -> None:
        while self._final is not None and self._callbacks:
            callback, on_error = self._callbacks.popleft()
            chosen = callback if self._final.status == SUCCESS else on_error
            if chosen is not None:
                chosen(self)

    def _raise_for(self, meta: ResultMeta, callback: Callable[[str, Any], object] | None = None) -> None:
        if meta.status not in PROPAGATE_STATES:
            return
        error = value_of(meta)
        if callback is not None:
            callback(self.id, error)
        if isinstance(error, BaseException):
            raise error
        raise MalformedMessage(f"task {self.id} is {meta.status} but stored no exception: {error!r:.200}")

    def _raise_for_parents(self) -> None:
        node, seen = self._parent, {self.id}
        while node is not None and node.id not in seen:
            seen.add(node.id)
            if not isinstance(node, AsyncResult):
                node = node.parent
                continue
            meta = node._meta()
            if meta.status in PROPAGATE_STATES:
                node._raise_for(meta)
            node = node._parent

    def _from_ref(self, child: Any) -> AsyncResult[Any] | GroupResult:
        return self.app.result_from_ref(parse_ref(child))
