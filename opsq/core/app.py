"""The app: settings, tasks by name, and the way to call them.

    app = Opsq("shop", broker="redis://localhost")

    @app.task
    def add(x: int, y: int) -> int: ...

Declaring costs nothing and opens nothing. The first use (a call, ``app.settings``, a worker) finalises
the app: the settings are checked and fixed, shared tasks are adopted, tasks take their defaults.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, overload

from opsq import plugins
from opsq.clock import Clock, SystemClock
from opsq.core.builtin_tasks import add_builtin_tasks
from opsq.core.conf import Conf
from opsq.core.config_source import object_source
from opsq.core.constructor import settings_given
from opsq.core.declare import annotate, base_for, build_task, copy_for, instance_for
from opsq.core.discovery import Discovery, Packages
from opsq.core.eager import AlwaysEagerIgnored, run_eagerly
from opsq.core.event_client import Events
from opsq.core.origin import Origin, new_id
from opsq.core.own_commands import Declares
from opsq.core.processes import Processes
from opsq.core.queues import Queues
from opsq.core.registry import PROCESS, TaskRegistry
from opsq.core.request import Context, current_frame
from opsq.core.result import AsyncResult as Handle
from opsq.core.result_set import GroupResult as GroupHandle
from opsq.core.result_set import GroupResults, result_from_ref
from opsq.core.result_set import ResultSet as HandleSet
from opsq.core.result_store import ResultStore
from opsq.core.schedules.periodic import Periodic
from opsq.core.security import Signing, setup_security
from opsq.core.signature import Signature, signature
from opsq.core.task import Task as BaseTask
from opsq.core.wiring import Wiring
from opsq.errors import UsageError
from opsq.settings import Settings
from opsq.signals import Signal
from opsq.wire.result import ResultRef

if TYPE_CHECKING:
    from opsq.broker.connection import BrokerConnection
    from opsq.broker.publisher import Publisher
    from opsq.core.calls import Caller
    from opsq.core.eager import EagerResult
    from opsq.core.sending import Sender

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")


class Opsq(Periodic, Processes):
    """An application: one registry of tasks with one set of settings. Also called ``opsq.Celery``.

    main: name of the app; stands for ``__main__`` in task names. broker, backend: URLs, as the
    settings ``broker_url`` and ``result_backend``. include: modules a worker imports. config_source,
    namespace: as of ``config_from_object``. set_as_current: shared tasks may mean this app.
    strict_typing: check arguments when a task is called. settings: any setting by name.
    Raises: UsageError for a keyword that is no setting. Thread: any.
    """

    signing: Signing | None = None
    setup_security = setup_security
    events = property(Events)
    control_command, inspect_command = Declares("write"), Declares("read")

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | Sequence[str] | None = None,
        backend: str | None = None,
        include: Iterable[str] = (),
        config_source: Any = None,
        namespace: str | None = None,
        set_as_current: bool = True,
        strict_typing: bool = True,
        task_cls: type[BaseTask[..., Any]] | str | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.main = main
        self.strict_typing = strict_typing
        self.clock: Clock = clock or SystemClock()
        self.origin = Origin()
        self.steps: dict[str, set[Any]] = {"worker": set(), "consumer": set()}
        self.on_configure = Signal("on_configure")
        self.on_after_configure = Signal("on_after_configure", ("source",))
        self.on_after_finalize = Signal("on_after_finalize")
        self.conf = Conf(main or "opsq", settings_given(broker, backend, tuple(include), settings))
        self._tasks = TaskRegistry()
        self._task_class = task_cls
        self._own_base: type[BaseTask[..., Any]] | None = None
        self._lock = threading.RLock()
        self._wiring: Wiring | None = None
        self._cli: dict[str, object] = {}
        self._discovery = Discovery()
        if config_source is not None:
            self.config_from_object(config_source, namespace=namespace)
        if set_as_current:
            PROCESS.add_app(self)

    def __repr__(self) -> str:
        return f"<Opsq {self.main or 'without a name'} at {id(self):#x}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_finalized(self) -> bool:
        """Whether the settings are fixed."""
        return self._wiring is not None

    @property
    def settings(self) -> Settings:
        """The checked settings; finalises the app. Raises: ConfigError with every fault."""
        return self._wired().settings

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks by name."""
        return self._tasks

    @property
    def backend(self) -> ResultStore:
        """The result store."""
        return self._wired().store

    @property
    def publisher(self) -> Publisher:
        """What publishes this app's messages; connects at first use, again in a forked child."""
        return self._wired().publisher

    @property
    def queues(self) -> Queues:
        """The queues by name; ``queues.declared`` are those a worker consumes."""
        return self._wired().queues

    @property
    def caller(self) -> Caller:
        """What builds this app's messages."""
        return self._wired().caller

    @property
    def sender(self) -> Sender:
        """What publishes this app's calls."""
        return self._wired().sender

    @property
    def current_task(self) -> BaseTask[..., Any] | None:
        """The task that runs in this thread, or none."""
        frame = current_frame()
        return frame.task if frame is not None else None

    @property
    def control(self) -> Any:
        """The client of remote control."""
        return self._wired().control

    @property
    def oid(self) -> str:
        """This process's address for replies to remote control."""
        return self.origin.oid

    @property
    def Task(self) -> type[BaseTask[..., Any]]:
        """The base class of this app's tasks, for class-based ones."""
        if self._own_base is None:
            self._own_base = base_for(self, self._task_class)
        return self._own_base

    def finalize(self, auto: bool = False) -> None:
        """Fix the settings and make every task ready. Twice does no harm. Raises: ConfigError with every fault."""
        self._wired()

    def close(self) -> None:
        """Close connections; shared tasks no longer mean this app. Twice does no harm."""
        PROCESS.remove_app(self)
        if self._wiring is not None:
            self._wiring.close()

    def set_current(self) -> None:
        """Let shared tasks and ``current_app`` mean this app."""
        PROCESS.set_default(self)

    set_default = set_current

    def apply_cli(self, values: Mapping[str, object]) -> None:
        """Put the command line's settings on top of all others. Raises: UsageError when in use already."""
        self.conf.apply_cli(values)
        self._cli.update(values)

    def cli_values(self) -> dict[str, object]:
        """What ``apply_cli`` was given, for child processes."""
        return dict(self._cli)

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take settings from a module, object, mapping, or the path of one; read at first need.

        silent: an object that cannot be imported is no error. force: read it now. namespace: prefix of
        the names, such as ``CELERY``.
        """
        self.conf.add_object(object_source(obj, silent, namespace or ""))
        if force:
            self.conf.load()

    def config_from_envvar(self, variable: str, silent: bool = False, force: bool = False) -> None:
        """Take settings from the module that an environment variable names. Raises: ConfigError when unset."""
        resolve: Any = plugins.resolve("opsq.settings_load:variable")
        path = resolve(variable, optional=silent)
        if path:
            self.config_from_object(path, silent=silent, force=force)

    def add_defaults(self, values: Mapping[str, Any]) -> None:
        """Take settings that anything set by name wins over."""
        self.conf.add_object(object_source(dict(values), False, ""))

    @overload
    def task(self, fun: Callable[P, Coroutine[Any, Any, A]]) -> BaseTask[P, A]: ...
    @overload
    def task(self, fun: Callable[P, R], *, bind: Literal[False] = False, **options: Any) -> BaseTask[P, R]: ...
    @overload
    def task(
        self, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], BaseTask[P, R]]: ...
    @overload
    def task(self, *, bind: Literal[False] = False, **options: Any) -> Callable[[Callable[P, R]], BaseTask[P, R]]: ...

    def task(self, fun: Any = None, **options: Any) -> Any:
        """Make a task of a function; options: ``core/task_options.py``. Raises: UsageError for an unknown one."""
        if fun is None:
            return lambda function: self._declare(function, options)
        if not callable(fun):
            raise UsageError(f"@app.task takes options by name only, got {fun!r}")
        return self._declare(fun, options)

    def register_task(self, task: Any) -> BaseTask[..., Any]:
        """Register a class-based task, a class or an instance, and return the instance."""
        instance = instance_for(self, task)
        with self._lock:
            instance.bind_to(self)
            self._tasks.register(instance)
            if self._wiring is not None:
                self._complete(instance, self._wiring.settings)
        return instance

    def adopt(self, task: BaseTask[..., Any]) -> None:
        """Take an own copy of a shared task, unless one of that name is there."""
        if task.name not in self._tasks:
            self.register_task(copy_for(task))

    def gen_task_name(self, name: str, module: str | None) -> str:
        """The name that a function called ``name`` in ``module`` gets."""
        return f"{self.main if module in (None, '__main__', '__mp_main__') and self.main else module}.{name}"

    def autodiscover_tasks(
        self, packages: Packages = None, related_name: str | None = "tasks", force: bool = False
    ) -> None:
        """Import the module ``related_name`` of each package when the app's modules are imported.

        packages: names, or a function that gives them. force: import now.
        """
        self._discovery.add(packages, related_name)
        if force:
            self._discovery.run()

    def import_task_modules(self) -> None:
        """Import what ``imports``, ``include`` and ``autodiscover_tasks`` name. Raises: ConfigError."""
        self._discovery.import_all(self.conf.load().settings)

    def send_task(
        self, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Handle[Any]:
        """Publish a call of a task by name, which need not be known here, and return the handle of its result.

        options: those of ``core/call_options.py``; a task of that name registered here adds its own.
        Raises: UsageError, BrokerUnavailable.
        """
        wired = self._wired()
        if wired.settings.task_always_eager:
            warnings.warn(
                f"task_always_eager has no effect on send_task({name!r}), which publishes; call the task instead",
                AlwaysEagerIgnored,
                stacklevel=2,
            )
        task = self._tasks.get(name)
        merged = {**task.call_options(), **options} if task is not None else options
        return wired.sender.send(name, args, kwargs, merged, task)

    def send_many(self, calls: Iterable[Any]) -> list[Handle[Any]]:
        """Publish many calls in batches and return the handles, in order.

        calls: signatures (``add.s(1, 2)``), or tuples (task name, args, kwargs, options) of which all
        but the first may be missing.
        """
        sender = self._wired().sender
        return sender.send_many(sender.parts_of(call) for call in calls)

    def signature(self, task: Any, *args: Any, **options: Any) -> Signature:
        """A signature of a task name, or read back from its dict."""
        return signature(task, *args, app=self, **options)

    def AsyncResult(self, id: str, **arguments: Any) -> Handle[Any]:
        """The handle of the result of a call."""
        return Handle(id, app=self, **arguments)

    @property
    def GroupResult(self) -> GroupResults:
        """Makes handles of groups: ``GroupResult(id, results)``, ``GroupResult.restore(id)``."""
        return GroupResults(self)

    def ResultSet(self, results: Iterable[Any] = ()) -> HandleSet:
        """Several results as one."""
        return HandleSet(results, app=self)

    def result_from_ref(self, ref: ResultRef) -> Handle[Any] | GroupHandle:
        """Handles of a tree of ids."""
        return result_from_ref(ref, self)

    def new_id(self) -> str:
        """A random task id."""
        return new_id()

    def run_workflow(
        self, sig: Mapping[str, Any], args: Sequence[Any], options: Mapping[str, Any], kwargs: Any = None
    ) -> Any:
        """Publish a chain, group or chord and return its handle."""
        return self._wired().sender.send_workflow(sig, args, options, kwargs)

    def run_eagerly(
        self, task: BaseTask[..., Any], args: Any, kwargs: Any, options: Mapping[str, Any], throw: bool | None = None
    ) -> EagerResult[Any]:
        """Run a call right here."""
        return run_eagerly(self, task, args, kwargs, options, throw)

    def store_state(self, task_id: str, state: str, meta: Any, request: Context, **more: Any) -> None:
        """Store a state that a task chose for itself."""
        self.backend.store_custom(task_id, state, meta, request, more)

    def connection(self, purpose: Literal["read", "write"] = "write") -> BrokerConnection:
        """A new connection to the broker, not yet connected."""
        return self._wired().connection(purpose)

    def queue_depths(self, names: Iterable[str]) -> dict[str, int]:
        """How many messages wait in each of these queues that exists. Raises: BrokerUnavailable."""
        return self._wired().depths(tuple(names))

    def purge_queue(self, name: str) -> int:
        """Delete all messages that wait in a queue; how many. Raises: BrokerUnavailable."""
        return self._wired().purge(name)

    def _declare(self, function: Callable[..., Any], options: Mapping[str, Any]) -> BaseTask[..., Any]:
        return self.register_task(build_task(function, options, self.main, self.Task))

    def _wired(self) -> Wiring:
        return self._wiring or self._finalize()

    def _finalize(self) -> Wiring:
        with self._lock:
            if self._wiring is not None:
                return self._wiring
            self.on_configure.send(sender=self)
            settings = self.conf.freeze()
            self.on_after_configure.send(sender=self, source=self.conf)
            wiring = Wiring(self, settings, self.origin, self.clock)
            for shared in PROCESS.shared():
                self.adopt(shared)
            add_builtin_tasks(self)
            for task in self._tasks.values():
                self._complete(task, settings)
            # Last: other threads take it as the sign that everything above is done.
            self._wiring = wiring
        self.on_after_finalize.send(sender=self)
        return wiring

    def _complete(self, task: BaseTask[..., Any], settings: Settings) -> None:
        task.take_settings(settings)
        annotate(task, settings.task_annotations)
