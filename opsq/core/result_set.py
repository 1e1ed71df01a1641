"""Several results as one: of a group, or gathered by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from opsq.core.registry import PROCESS
from opsq.core.result import AsyncResult
from opsq.core.result_store import ResultStore
from opsq.core.waiting import refuse_to_block, wait_ready
from opsq.wire.result import ResultMeta, ResultRef, parse_ref

if TYPE_CHECKING:
    from opsq.core.app import Opsq

Callback = Callable[[str, Any], object]


class LazyHandles(Sequence[Any]):
    """Handles that are made when asked for; a set keeps them as they are."""


class ResultSet:
    """Results in order; each at most once. Thread: any; one thread waits."""

    def __init__(self, results: Iterable[Any] = (), app: Opsq | None = None) -> None:
        self._app = app
        self.results: Any = []
        if isinstance(results, LazyHandles):
            self.results = results
        else:
            self.update(results)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{_ids_shown(self.results)}]>"

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return self.results == other.results if isinstance(other, ResultSet) else NotImplemented

    def __hash__(self) -> int:
        return id(self)

    @property
    def app(self) -> Opsq:
        """The app whose result store is asked."""
        return self._app or next((result.app for result in self.results), None) or PROCESS.current()

    @property
    def backend(self) -> ResultStore:
        """The result store."""
        return self.app.backend

    def add(self, result: Any) -> None:
        """Add a result unless it is there."""
        if result not in self.results:
            self.results.append(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add several results, each unless it is there."""
        known = {result.id for result in self.results}
        for result in results:
            if result.id not in known:
                known.add(result.id)
                self.results.append(result)

    def remove(self, result: Any) -> None:
        """Take a result out, by handle or id. Raises: KeyError when it is not there."""
        found = next((each for each in self.results if each == result), None)
        if found is None:
            raise KeyError(result)
        self.results.remove(found)

    def discard(self, result: Any) -> None:
        """Take a result out when it is there."""
        self.results = [each for each in self.results if each != result]

    def clear(self) -> None:
        """Take all out."""
        self.results.clear()

    def successful(self) -> bool:
        """Whether all ended well."""
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        """Whether any failed."""
        return any(result.failed() for result in self.results)

    def waiting(self) -> bool:
        """Whether any has not ended."""
        return not self.ready()

    def ready(self) -> bool:
        """Whether all have ended."""
        return all(result.ready() for result in self.results)

    def completed_count(self) -> int:
        """How many ended well."""
        return sum(result.successful() for result in self.results)

    def forget(self) -> None:
        """Delete what is stored of each, members of inner groups included."""
        self.backend.forget([result.id for result in self._plain_results()])
        for result in self.results:
            if not isinstance(result, ResultSet):
                result.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Ask all workers not to run any of them; with ``wait``, return their answers. connection: not needed."""
        return self.app.control.revoke(
            [result.id for result in self._plain_results()],
            terminate=terminate,
            signal=signal or "SIGTERM",
            reply=wait,
            timeout=timeout or 1.0,
        )

    def maybe_throw(self, callback: Callback | None = None, propagate: bool = True) -> None:
        """Raise the first error among those that ended."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callback | None = None,
        no_ack: bool = True,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], object] | None = None,
    ) -> list[Any]:
        """Wait for all and return their values in order, or raise the first error.

        Arguments and errors: as of ``AsyncResult.get``; ``callback`` gets (id, value) in order.
        """
        if disable_sync_subtasks:
            refuse_to_block("get()")
        for _id, _meta in self.iter_native(timeout, interval, no_ack, on_message, on_interval):
            pass
        values: list[Any] = []
        for result in self.results:
            value = result.get(propagate=propagate, disable_sync_subtasks=False, callback=callback)
            values.append(value)
        return values

    join = get
    join_native = get

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        on_interval: Callable[[], object] | None = None,
    ) -> Iterator[tuple[str, ResultMeta]]:
        """Yield (id, final state) in the order in which they end. Raises: ResultTimeout."""
        plain = {result.id: result for result in self._plain_results()}
        for meta in wait_ready(self.backend, list(plain), timeout, interval, on_interval):
            plain[meta.task_id]._keep(meta)
            yield meta.task_id, meta

    def iterate(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> Iterator[Any]:
        """Yield values in the order in which they end."""
        plain = {result.id: result for result in self._plain_results()}
        for id, _meta in self.iter_native(timeout, interval):
            yield plain[id].maybe_throw(propagate=propagate)

    def then(self, callback: Callable[[Any], object], on_error: Callable[[Any], object] | None = None) -> ResultSet:
        """Call ``callback`` with this set when all are seen to have ended well.

        At once when they have; otherwise the call is made by whatever sees the last of them end.
        """
        left = {result.id for result in self.results}

        def one_more(result: Any) -> None:
            left.discard(result.id)
            if not left:
                callback(self)

        for result in list(self.results):
            result.then(one_more, on_error)
        return self

    def _plain_results(self) -> list[AsyncResult[Any]]:
        """The single results, those of inner groups included, that the store knows."""
        plain: list[AsyncResult[Any]] = []
        for result in self.results:
            if isinstance(result, ResultSet):
                plain.extend(result._plain_results())
            elif isinstance(result, AsyncResult) and result.backed and not result.ignored:
                plain.append(result)
        return plain


class GroupResult(ResultSet):
    """The results of a group, under its id."""

    def __init__(
        self, id: str | None = None, results: Iterable[Any] = (), parent: Any = None, app: Opsq | None = None
    ) -> None:
        super().__init__(results, app)
        self.id = str(id)
        self.parent = parent

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{_ids_shown(self.results)}]>"

    def __str__(self) -> str:
        return self.id

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return self.id == other.id and self.results == other.results
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    @property
    def children(self) -> list[Any]:
        """The members."""
        members: list[Any] = self.results
        return members

    def as_tuple(self) -> tuple[Any, Any]:
        """The handle as plain data, ``((id, parent), [members])``."""
        parent = self.parent.as_tuple() if self.parent is not None else None
        return (self.id, parent), [result.as_tuple() for result in self.results]

    def save(self, backend: ResultStore | None = None) -> None:
        """Store the members' ids under the group's, for ``restore``."""
        (backend or self.backend).save_group(parse_ref(self.as_tuple()))

    def delete(self, backend: ResultStore | None = None) -> None:
        """Delete what ``save`` stored."""
        (backend or self.backend).forget_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: ResultStore | None = None, app: Opsq | None = None) -> GroupResult | None:
        """Read back a saved group, or none."""
        owner = app or PROCESS.current()
        ref = (backend or owner.backend).load_group(id)
        restored = result_from_ref(ref, owner) if ref is not None else None
        return restored if isinstance(restored, GroupResult) else None


class GroupResults:
    """``GroupResult`` of one app."""

    def __init__(self, app: Opsq) -> None:
        self._app = app

    def __call__(self, id: str | None = None, results: Iterable[Any] = (), **arguments: Any) -> GroupResult:
        """The handle of the results of a group."""
        return GroupResult(id, results, app=self._app, **arguments)

    def restore(self, id: str, backend: ResultStore | None = None, app: Opsq | None = None) -> GroupResult | None:
        """Read back a saved group, or none."""
        return GroupResult.restore(id, backend, app or self._app)


def _ids_shown(results: Sequence[Any], most: int = 20) -> str:
    shown = ", ".join(result.id for result in results[:most])
    return shown if len(results) <= most else f"{shown}, … {len(results) - most} more"


def result_from_ref(ref: ResultRef, app: Opsq | None = None) -> AsyncResult[Any] | GroupResult:
    """Make handles of a tree of ids."""
    parent = result_from_ref(ref.parent, app) if ref.parent is not None else None
    if ref.children is None:
        return AsyncResult(ref.id, app=app, parent=parent)
    return GroupResult(ref.id, [result_from_ref(child, app) for child in ref.children], parent=parent, app=app)


def result_from_tuple(value: Sequence[Any] | str, app: Opsq | None = None) -> AsyncResult[Any] | GroupResult:
    """Make a handle of what ``as_tuple`` gave. Raises: MalformedMessage."""
    return result_from_ref(parse_ref(value), app)
