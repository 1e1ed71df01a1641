"""Start components in the order their needs dictate, stop them in the opposite order.

A component is a ``Bootstep``. It names the *types* it needs and the one type it gives, never another
step: ``up[BrokerConnection]`` is whatever step gives a ``BrokerConnection``. From that the ``Graph``
derives one order, always the same (ties are broken by name), so that a log of one start can be
compared with the next. Three promises:

* all or nothing: when a step cannot start, it and every step before it are stopped, newest first,
  and one ``StartError`` names the culprit;
* stop always finishes its round: every step is asked once, all share one deadline, every error is
  collected and reported at the end;
* any thread may call ``start`` and ``stop`` at any moment; a ``stop`` that arrives during a ``start``
  makes the start give up before its next step.

A graph that was stopped can be started again; the worker does that when a connection is rebuilt.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast

from opsq.errors import ConfigError, Fault, LifecycleError, StartError, StopTimeout, UsageError

T = TypeVar("T")


class Provided:
    """What has been provided so far, by type; falls back to ``parent``. Thread: any."""

    def __init__(self, given: Mapping[type[Any], object] | None = None, parent: Provided | None = None) -> None:
        self._items: dict[type[Any], object] = dict(given or {})
        self._parent = parent

    def __getitem__(self, wanted: type[T]) -> T:
        """Return the object provided for ``wanted``. Raises: UsageError when nobody provided one."""
        scope: Provided | None = self
        while scope is not None:
            if wanted in scope._items:
                return cast(T, scope._items[wanted])
            scope = scope._parent
        raise UsageError(
            f"nothing provides {type_name(wanted)} here; add it to the step's requires, "
            f"present are: {', '.join(sorted(map(type_name, self.types()))) or 'none'}"
        )

    def get(self, wanted: type[T], default: T | None = None) -> T | None:
        """Return the object provided for ``wanted``, else ``default``."""
        if wanted not in self:
            return default
        return self[wanted]

    def __contains__(self, wanted: object) -> bool:
        return wanted in self._items or (self._parent is not None and wanted in self._parent)

    def add(self, kind: type[T], value: T) -> None:
        """Provide ``value`` for ``kind``, replacing what was there."""
        self._items[kind] = value

    def discard(self, kind: type[Any]) -> None:
        """Withdraw what was provided for ``kind``; a parent's stays visible."""
        self._items.pop(kind, None)

    def types(self) -> set[type[Any]]:
        """Every type that can be looked up here."""
        return set(self._items) | (self._parent.types() if self._parent is not None else set())


class Bootstep(Generic[T]):
    """One component that can start and stop.

    name: how logs and ``explain`` call it; the class name when empty. requires: types that must be
    there before it starts. provides: the type of what ``start`` returns, None when nobody needs it.
    """

    name: ClassVar[str] = ""
    requires: ClassVar[tuple[type[Any], ...]] = ()
    provides: ClassVar[type[Any] | None] = None

    def start(self, up: Provided) -> T:
        """Start and return what this step provides. Raises: anything; the graph then unwinds."""
        raise NotImplementedError(f"{type(self).__name__}.start is not written")

    def stop(self, deadline: float) -> None:
        """Stop by ``deadline`` (monotonic seconds).

        Called for a step that failed half-way through ``start`` as well, so it must accept that
        nothing was started, and being called twice.
        """


class Graph:
    """The steps of one process or one connection, in their order.

    steps: each provides at most one type; no two the same.
    given: objects that exist before any step; a ``Provided`` is consulted live, not copied.
    Raises: ConfigError naming every duplicate, missing provider and cycle.
    """

    def __init__(
        self, steps: Sequence[Bootstep[Any]], given: Mapping[type[Any], object] | Provided | None = None
    ) -> None:
        parent = given if isinstance(given, Provided) else Provided(given)
        self.provided = Provided(parent=parent)
        self._given = parent.types()
        self._steps = arrange(steps, self._given)
        self._started: list[Bootstep[Any]] = []
        self._lifecycle = threading.Lock()
        self._owner = 0
        self._stops_lock = threading.Lock()
        self._stops_waiting = 0

    def order(self) -> list[str]:
        """Names of the steps in starting order."""
        return [step_name(step) for step in self._steps]

    def running(self) -> list[str]:
        """Names of the steps that have started and were not asked to stop, oldest first."""
        return [step_name(step) for step in tuple(self._started)]

    def explain(self) -> str:
        """Return the order as text, one numbered line per step with what it needs and gives."""
        width = max((len(name) for name in self.order()), default=0)
        lines = []
        for number, step in enumerate(self._steps, 1):
            line = f"{number:>3}. {step_name(step):<{width}}"
            if step.requires:
                line += "  needs " + ", ".join(map(type_name, step.requires))
            if step.provides is not None:
                line += f"  gives {type_name(step.provides)}"
            lines.append(line.rstrip())
        return "\n".join(lines)

    def start(self, *, unwind_timeout_s: float = 10.0) -> None:
        """Start every step, or none; does nothing when already started.

        unwind_timeout_s: how long stopping the started ones may take when a step fails.
        Raises: StartError from the cause. Thread: any; blocks while another thread starts or stops.
        """
        self._enter("start")
        with self._lifecycle:
            self._owner = threading.get_ident()
            try:
                if not self._started:
                    self._start_all(unwind_timeout_s)
            finally:
                self._owner = 0

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop every started step, newest first; does nothing when none is.

        timeout_s: shared by all steps. Each is asked even when it has passed.
        Raises: StopTimeout naming the late ones, LifecycleError naming the failed ones; the errors
        themselves are in the ExceptionGroup it comes from. Thread: any.
        """
        self._enter("stop")
        deadline = time.monotonic() + timeout_s
        with self._stops_lock:
            self._stops_waiting += 1
        try:
            if not self._lifecycle.acquire(timeout=max(0.0, timeout_s)):
                raise StopTimeout(f"another thread was still starting or stopping after {timeout_s:g} s")
            self._owner = threading.get_ident()
            try:
                self._raise_for(self._stop_all(deadline), timeout_s)
            finally:
                self._owner = 0
                self._lifecycle.release()
        finally:
            with self._stops_lock:
                self._stops_waiting -= 1

    def _enter(self, verb: str) -> None:
        # The lock is not reentrant on purpose: a step that stops its own graph would wait for itself.
        if self._owner == threading.get_ident():
            raise LifecycleError(f"a step called {verb} on the graph that is starting or stopping it")

    def _start_all(self, unwind_timeout_s: float) -> None:
        for step in self._steps:
            self._started.append(step)
            try:
                if self._stops_waiting:
                    raise LifecycleError("stop was asked for while starting")
                self._start_one(step)
            except BaseException as cause:
                before = self.running()[:-1]
                late = self._stop_all(time.monotonic() + unwind_timeout_s)
                for name, error in late:
                    cause.add_note(f"while unwinding, {name} failed to stop: {error}")
                if not isinstance(cause, Exception):
                    raise  # Ctrl-C and SystemExit are not failures of the step
                raise StartError(step_name(step), before, cause) from cause

    def _start_one(self, step: Bootstep[Any]) -> None:
        value = step.start(self.provided)
        kind = step.provides
        if kind is None:
            return
        # Without this the mistake would surface in whichever step uses the object first.
        if value is None or (not getattr(kind, "_is_protocol", False) and not isinstance(value, kind)):
            raise UsageError(
                f"{step_name(step)} promises a {type_name(kind)} but its start returned {type(value).__name__}"
            )
        self.provided.add(kind, value)

    def _stop_all(self, deadline: float) -> list[tuple[str, Exception]]:
        failed: list[tuple[str, Exception]] = []
        while self._started:
            step = self._started.pop()
            was_late = time.monotonic() > deadline
            try:
                step.stop(deadline)
                if not was_late and time.monotonic() > deadline:
                    failed.append((step_name(step), StopTimeout("returned after the deadline")))
            except Exception as error:  # noqa: BLE001  # boundary: one step must not keep the others from stopping
                failed.append((step_name(step), error))
            finally:
                if step.provides is not None:
                    self.provided.discard(step.provides)
        return failed

    @staticmethod
    def _raise_for(failed: list[tuple[str, Exception]], timeout_s: float) -> None:
        if not failed:
            return
        details = "; ".join(f"{name}: {error or type(error).__name__}" for name, error in failed)
        group = ExceptionGroup("errors while stopping", [error for _, error in failed])
        late = [name for name, error in failed if isinstance(error, StopTimeout)]
        if late:
            raise StopTimeout(f"{', '.join(late)} had not stopped within {timeout_s:g} s ({details})") from group
        raise LifecycleError(f"{len(failed)} step(s) failed to stop ({details})") from group


def step_name(step: Bootstep[Any]) -> str:
    """How logs and errors call ``step``."""
    return step.name or type(step).__name__


def type_name(kind: type[Any]) -> str:
    """Short name of a type for people."""
    return getattr(kind, "__name__", repr(kind))


def arrange(steps: Sequence[Bootstep[Any]], given: set[type[Any]]) -> tuple[Bootstep[Any], ...]:
    """Return ``steps`` so that each comes after what it requires; ties by name.

    Raises: ConfigError with every duplicate name, duplicate and missing provider, and any cycle.
    """
    providers, faults = _providers(steps, given)
    for step in steps:
        for kind in step.requires:
            if kind not in providers and kind not in given:
                faults.append(
                    Fault(f"step {step_name(step)} needs {type_name(kind)}, which no step provides", _where(step))
                )
    if faults:
        raise ConfigError(faults)
    needs = {
        step_name(step): {step_name(providers[kind]) for kind in step.requires if kind in providers} for step in steps
    }
    by_name = {step_name(step): step for step in steps}
    return tuple(by_name[name] for name in _sorted_names(needs))


def _providers(
    steps: Sequence[Bootstep[Any]], given: set[type[Any]]
) -> tuple[dict[type[Any], Bootstep[Any]], list[Fault]]:
    providers: dict[type[Any], Bootstep[Any]] = {}
    names: dict[str, Bootstep[Any]] = {}
    faults = []
    for step in steps:
        name, kind = step_name(step), step.provides
        if names.setdefault(name, step) is not step:
            faults.append(Fault(f"two steps are called {name}", _where(step), f"the other is {_where(names[name])}"))
        if kind is None:
            continue
        if kind in given:
            faults.append(Fault(f"step {name} provides {type_name(kind)}, which is already given", _where(step)))
        elif providers.setdefault(kind, step) is not step:
            other = step_name(providers[kind])
            faults.append(Fault(f"steps {other} and {name} both provide {type_name(kind)}", _where(step)))
    return providers, faults


def _sorted_names(needs: Mapping[str, set[str]]) -> list[str]:
    waiting = {name: set(others) for name, others in needs.items()}
    ready = [name for name, others in waiting.items() if not others]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = heapq.heappop(ready)
        order.append(name)
        del waiting[name]
        for other, left in waiting.items():
            if name in left:
                left.discard(name)
                if not left:
                    heapq.heappush(ready, other)
    if waiting:
        raise ConfigError(f"steps need each other in a circle: {' -> '.join(_circle(waiting))}")
    return order


def _circle(waiting: Mapping[str, set[str]]) -> list[str]:
    name = min(waiting)
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = min(waiting[name])
    return [*path[path.index(name) :], name]


def _where(step: Bootstep[Any]) -> str:
    kind = type(step)
    return f"{kind.__module__}.{kind.__qualname__}"
