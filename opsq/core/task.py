"""A task: what runs, how it is called, and what it may do while it runs.

``@app.task`` makes one from a function and returns the real object; there are no proxies. Whoever
runs a task (``core/worker/execute.py``, ``core/eager.py``) pushes its request with
``core.request.running``, calls ``task.entry``, and hands what it raises to ``task.autoretry``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar

from opsq.core.arguments import ArgumentCheck
from opsq.core.autoretry import retry_if_wanted
from opsq.core.over_items import chunks, xmap, xstarmap
from opsq.core.registry import PROCESS
from opsq.core.replacing import add_to_chord, replace
from opsq.core.request import Context, FrameToken, current_frame, pop, push, request_of
from opsq.core.retrying import plan_retry, signature_of_request
from opsq.core.signature import Signature, signature
from opsq.core.task_options import CALL_OPTIONS_OF_TASK, FROM_SETTINGS
from opsq.core.telling import PROGRESS, is_done, progress_fields
from opsq.errors import MaxRetriesExceededError, Reject, Retry, Unavailable, UsageError

if TYPE_CHECKING:
    from opsq.core.app import Opsq
    from opsq.core.eager import EagerResult
    from opsq.core.result import AsyncResult
    from opsq.core.result_store import ResultStore
    from opsq.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A task of an app; subclass it and define ``run``, or let ``@app.task`` do so.

    The attributes are the options of ``core/task_options.py``. None means that the settings decide,
    from the moment the app is finalised.
    Thread: any; the object is shared by all threads and holds nothing of a single run.
    """

    name: str | None = None
    typing: bool | None = None
    max_retries: int | None = 3
    default_retry_delay: float = 180
    rate_limit: str | float | None = None
    ignore_result: bool | None = None
    trail: bool = True
    send_events: bool = True
    payload: str | None = None
    store_errors_even_if_ignored: bool | None = None
    store_eager_result: bool | None = None
    serializer: str | None = None
    compression: str | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    track_started: bool | None = None
    acks_late: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    retry_on_worker_lost: bool | None = None
    throws: tuple[type[BaseException], ...] = ()
    expires: Any = None
    priority: int | None = None
    queue: Any = None
    exchange: Any = None
    routing_key: str | None = None
    delivery_mode: int | str | None = None
    immediate: bool | None = None
    mandatory: bool | None = None
    resultrepr_maxsize: int = 1024
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] | None = None
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True
    bind: bool = False
    pydantic: bool = False
    abstract: bool = False

    is_async: bool = False
    """Whether ``run`` is a coroutine function."""

    MaxRetriesExceededError: ClassVar[type[Exception]] = MaxRetriesExceededError
    _app: Opsq | None = None
    _check: ArgumentCheck | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task's function right here, without any message."""
        frame = current_frame()
        if frame is not None and frame.task is self and frame.request.__dict__.get("_entering"):
            # The runner called an overridden __call__, which came here through super(): its request stays.
            frame.request.__dict__["_entering"] = False
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]  # run is the user's
        token = push(self, Context(task=self.name, args=args, kwargs=kwargs))
        try:
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]  # run is the user's
        finally:
            pop(token)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """What the task does; subclasses define it."""
        raise NotImplementedError(f"task {self.name!r} defines no run()")

    def __repr__(self) -> str:
        app = self._app
        return f"<Task: {self.name} of {app.main or 'an unnamed app' if app is not None else 'whichever app'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_find_task, (self.name, self._app.main if self._app is not None else None))

    @property
    def app(self) -> Opsq:
        """The app; of a shared task the one it can mean here. Raises: UsageError when that could be two."""
        return self._app if self._app is not None else PROCESS.meant_by(str(self.name))

    @property
    def bound_app(self) -> Opsq | None:
        """The app this very object belongs to; none for a shared task as declared."""
        return self._app

    @property
    def backend(self) -> ResultStore:
        """The result store of the app."""
        return self.app.backend

    @property
    def request(self) -> Context:
        """The request of the running attempt of this task in this thread; an empty one outside."""
        return request_of(self.name) or Context(task=self.name)

    @property
    def entry(self) -> Callable[..., Any]:
        """What a runner calls: ``run``, or ``__call__`` where a subclass overrides it."""
        if type(self).__call__ is Task.__call__:
            return self.run
        return self._enter

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Publish a call with these arguments and return the handle of its result.

        Raises: BadArguments (a TypeError) when the task does not take them, BrokerUnavailable.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Publish a call with options (``core/call_options.py``) and return the handle of its result.

        Raises: BadArguments (a TypeError) for arguments the task does not take, UsageError for options
        that do not exist, BrokerUnavailable when the broker did not take it.
        """
        app = self._app or self.app
        if not app.is_finalized:
            app.finalize()
        checks = self.typing
        if checks if checks is not None else app.strict_typing:
            self._check_arguments(args, kwargs)
        merged = self.call_options()
        if options:
            merged.update(options)
        for key, value in (("task_id", task_id), ("link", link), ("link_error", link_error), ("shadow", shadow)):
            if value is not None:
                merged[key] = value
        if merged.get("shadow") is None and type(self).shadow_name is not Task.shadow_name:
            merged["shadow"] = self.shadow_name(args or (), kwargs or {}, merged)
        if app.settings.task_always_eager:
            return app.run_eagerly(self, args, kwargs, merged)
        return app.sender.send(str(self.name), args, kwargs, merged, self)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int = 0,
        throw: bool | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task right here as a worker would, and return its result.

        throw: raise the task's error; none follows ``task_eager_propagates``.
        """
        merged = {**self.call_options(), **options, "link": link, "link_error": link_error, "retries": retries}
        if task_id is not None:
            merged["task_id"] = task_id
        return self.app.run_eagerly(self, args, kwargs, merged, throw=throw)

    def call_options(self) -> dict[str, Any]:
        """The call options that the task's own attributes give to each of its messages."""
        options = {name: value for name in CALL_OPTIONS_OF_TASK if (value := getattr(self, name)) is not None}
        if self.time_limit is not None:
            options["time_limit"] = self.time_limit
        if self.soft_time_limit is not None:
            options["soft_time_limit"] = self.soft_time_limit
        options["ignore_result"] = self.ignore_result
        return options

    def shadow_name(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
        """The name shown in logs and events for this call; override to choose one."""
        return None

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature of this task with these arguments; a parent's result goes before them."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature that takes no parent's result."""
        return self.signature(args, kwargs, immutable=True)

    def signature(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """A signature of this task, with call options."""
        immutable = bool(options.pop("immutable", False))
        call = options.pop("options", None) or {}
        made = signature(str(self.name), args, kwargs, {**call, **options}, app=self._app, immutable=immutable)
        return made.of_task(self)

    subtask = signature

    def AsyncResult(self, task_id: str, **arguments: Any) -> AsyncResult[R]:
        """The handle of the result of a call of this task."""
        return self.app.AsyncResult(task_id, task_name=self.name, **arguments)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Publish the next attempt of the running call, then raise Retry (or return it: ``throw=False``).

        countdown: seconds; default ``default_retry_delay``. args, kwargs: instead of the same again.
        Raises: ``exc`` or MaxRetriesExceededError when there were enough retries, Reject (with requeue) when
        broker or store do not answer, UsageError for options that cannot be; outside a run, the error at hand.
        """
        request = self.request
        decided = plan_retry(self, request, exc, eta, countdown, max_retries)
        next_call = signature_of_request(
            self, request, args, kwargs, {**options, "retries": request.retries + 1, **decided.due}
        )
        outcome = Retry(exc=exc, when=decided.when, is_eager=request.is_eager, sig=next_call)
        if not request.is_eager:
            try:
                if request.before_retry is not None:
                    # The state RETRY first: stored later, it could overwrite the end of a quick next attempt.
                    request.before_retry(outcome)
                next_call.apply_async(add_to_parent=False)
            except Unavailable as error:
                # Nothing else goes back: a call that can never be sent would run for ever.
                raise Reject(error, requeue=True) from error
        if throw:
            raise outcome from exc
        return outcome

    def autoretry(self, error: BaseException) -> None:
        """Retry when ``autoretry_for`` covers what the running attempt raised; else do nothing.

        Raises: as ``retry``.
        """
        if self.autoretry_for:
            retry_if_wanted(self, error)

    def replace(self, sig: Any) -> Any:
        """Let ``sig``, a call or a workflow, do this task's work, under this task's id. Always raises Ignore.

        Raises: UsageError for a signature that cannot take its place.
        """
        return replace(self.app, self.request, sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Make ``sig`` one more member of the chord whose header this task belongs to; returns its handle.

        Raises: UsageError outside a chord's header.
        """
        return add_to_chord(self.app, self.request, sig, lazy)

    def chunks(self, it: Any, n: int) -> Any:
        """The calls of this task with each item's parts, ``n`` of them in one message."""
        return chunks(self.s(), it, n, app=self._app)

    def map(self, it: Any) -> Any:
        """One call that runs this task with each item."""
        return xmap(self.s(), it, app=self._app)

    def starmap(self, it: Any) -> Any:
        """One call that runs this task with each item's parts."""
        return xstarmap(self.s(), it, app=self._app)

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None, **more: Any) -> None:
        """Store a state of your own for the running call, such as ``PROGRESS`` with ``meta``."""
        request = self.request
        wanted = task_id or request.id
        if wanted is None:
            raise UsageError(f"update_state of task {self.name!r} needs a task_id outside a run")
        self.app.store_state(wanted, str(state), meta, request, **more)
        if state == PROGRESS and wanted == request.id:
            self._say_progress(meta)

    def update_progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Tell the monitor how far the running call is; stores nothing, and is said at most ten times a second."""
        self._say_progress({"current": current, "total": total, "message": message})

    def _say_progress(self, told: object) -> None:
        voice, id = self.app.sender.voice, self.request.id
        if voice is not None and id is not None:
            fields = progress_fields(str(self.name), told)
            voice.progress(id, fields, last=is_done(fields))

    def send_event(self, type_: str, retry: bool = True, retry_policy: Any = None, **fields: Any) -> None:
        """Publish an event about the running call, such as ``task-progress``."""
        self.app.sender.send_event(type_, {"uuid": self.request.id, **fields})

    def add_trail(self, result: Any) -> Any:
        """Record ``result`` as a child of the running call."""
        if self.trail:
            self.request.children.append(result)
        return result

    def push_request(self, *args: Any, **fields: Any) -> FrameToken:
        """Make a request of these fields the running one; end it with ``pop_request``."""
        return push(self, Context(**{"task": self.name, "called_directly": False, **fields}))

    def pop_request(self, token: FrameToken) -> None:
        """End what ``push_request`` began."""
        pop(token)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the slot before an attempt begins."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the slot when an attempt succeeded."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the slot when an attempt is to be retried."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the slot when an attempt failed for good."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the slot when an attempt ended, whatever its end."""

    def on_bound(self, app: Opsq) -> None:
        """Called when the task was bound to its app; override to prepare something."""

    def bind_to(self, app: Opsq) -> None:
        """Make the task one of ``app``."""
        self._app = app
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(self.run))
        self.on_bound(app)

    def take_settings(self, settings: Settings) -> None:
        """Fill the attributes that were not declared from the settings."""
        for name, setting in FROM_SETTINGS:
            if getattr(self, name) is None and name not in ("time_limit", "soft_time_limit"):
                setattr(self, name, getattr(settings, setting))

    def _check_arguments(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
        check = self._check
        if check is None:
            check = self._check = ArgumentCheck(str(self.name), self.run)
        check(args, kwargs)

    def _enter(self, *args: Any, **kwargs: Any) -> Any:
        frame = current_frame()
        if frame is not None and frame.task is self:
            frame.request.__dict__["_entering"] = True
        return self(*args, **kwargs)


def _find_task(name: str, main: str | None) -> Task[..., Any]:
    """Unpickle a task: the one of that name in this process."""
    apps = [app for app in PROCESS.apps() if name in app.tasks]
    named = [app for app in apps if app.main == main]
    if not apps:
        raise UsageError(f"task {name!r} is not registered in this process")
    return (named or apps)[0].tasks[name]
