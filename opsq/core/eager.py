"""Run a call right here, as a worker would: for ``apply()`` and ``task_always_eager``.

The same hooks, signals, retries and callbacks as in a worker; no message, no event. Results are stored
only with ``task_store_eager_result``.
"""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from opsq import plugins
from opsq.core.calls import signature_list
from opsq.core.request import Context, calling_request, running
from opsq.core.result import AsyncResult
from opsq.core.signature import maybe_signature
from opsq.errors import Ignore, Reject, Retry, UsageError
from opsq.signals import task_failure, task_postrun, task_prerun, task_retry, task_success
from opsq.wire.result import ResultMeta
from opsq.wire.states import FAILURE, IGNORED, PROPAGATE_STATES, READY_STATES, REJECTED, RETRY, SUCCESS

if TYPE_CHECKING:
    from opsq.core.app import Opsq
    from opsq.core.task import Task

R = TypeVar("R", covariant=True)


class EagerResult(AsyncResult[R]):
    """The result of a call that ran right here."""

    backed = False

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        app: Opsq | None = None,
        children: Sequence[Any] = (),
    ) -> None:
        super().__init__(id, task_name=name, app=app)
        self._value = ret_value
        self._state = state
        self._children = list(children)
        self._final = ResultMeta(task_id=id, status=state, result=ret_value, traceback=traceback, name=name)

    def __reduce__(self) -> tuple[Any, ...]:
        return (EagerResult, (self.id, self._value, self._state, self.traceback, self.task_name))

    @property
    def result(self) -> Any:
        """The value or the error."""
        return self._value

    info = result

    @property
    def children(self) -> list[Any]:
        """Handles of the calls it made."""
        return self._children

    def ready(self) -> bool:
        """Always: it ran before this handle was made."""
        return True

    def get(self, timeout: float | None = None, propagate: bool = True, *_ignored: Any, **_more: Any) -> Any:
        """Return the value, or raise the error."""
        callback = _more.get("callback")
        if self._state in PROPAGATE_STATES and propagate:
            raise self._value if isinstance(self._value, BaseException) else Exception(self._value)
        if callback is not None:
            callback(self.id, self._value)
        return self._value

    wait = get

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Return the value, or raise the error."""
        return self.get(propagate=propagate, callback=callback)

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(self, *_ignored: Any, **_more: Any) -> None:
        """Too late: it has run."""


class AlwaysEagerIgnored(UserWarning):
    """``send_task`` publishes by name, so ``task_always_eager`` cannot run the task right here."""


class _End(NamedTuple):
    state: str
    value: Any
    traceback: str | None = None


class EagerRun:
    """One call that runs right here.

    throw: raise the task's error to the caller.
    """

    def __init__(self, app: Opsq, task: Task[..., Any], options: Mapping[str, Any], throw: bool) -> None:
        self._app = app
        self._task = task
        self._options = options
        self._throw = throw

    def run(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> EagerResult[Any]:
        """Run it, its retries and its callbacks; returns the result."""
        task, request = self._task, self._request(args, kwargs)
        id = str(request.id)
        end = self._attempt(request)
        if end.state == RETRY and isinstance(end.value, Retry) and end.value.sig is not None:
            again = end.value.sig
            return EagerRun(self._app, task, again.options, self._throw).run(again.args, again.kwargs)
        self._store(request, end)
        if end.state == FAILURE:
            self._call("link_error", [id], request)
            if self._throw:
                raise end.value
        elif end.state == SUCCESS:
            self._call("link", [end.value], request)
            self._go_on(end.value)
        return EagerResult(id, end.value, end.state, end.traceback, task.name, self._app, request.children)

    def _request(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> Context:
        option = self._options.get
        id = option("task_id") or self._app.new_id()
        parent = calling_request()
        return Context(
            id=id,
            task=self._task.name,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            root_id=option("root_id") or (parent.root_id if parent is not None else None) or id,
            parent_id=option("parent_id") or (parent.id if parent is not None else None),
            correlation_id=id,
            retries=option("retries") or 0,
            headers=dict(option("headers") or {}),
            callbacks=signature_list(option("link"), "link"),
            errbacks=signature_list(option("link_error"), "link_error"),
            group=option("group_id"),
            group_index=option("group_index"),
            ignore_result=option("ignore_result"),
            timelimit=(option("time_limit"), option("soft_time_limit")),
            delivery_info={
                "is_eager": True,
                "exchange": option("exchange"),
                "routing_key": option("routing_key") or option("queue"),
                "priority": option("priority"),
            },
            hostname=self._app.origin.hostname,
            is_eager=True,
            called_directly=False,
        )

    def _attempt(self, request: Context) -> _End:
        task, id, args, kwargs = self._task, str(request.id), request.args or (), request.kwargs or {}
        with running(task, request):
            task_prerun.send(sender=task, task_id=id, task=task, args=args, kwargs=kwargs)
            end = self._outcome(request)
            task.after_return(end.state, end.value, id, args, kwargs, end.traceback)
            task_postrun.send(
                sender=task, task_id=id, task=task, args=args, kwargs=kwargs, retval=end.value, state=end.state
            )
        return end

    def _outcome(self, request: Context) -> _End:
        task, id, args, kwargs = self._task, str(request.id), tuple(request.args or ()), dict(request.kwargs or {})
        try:
            task.before_start(id, args, kwargs)
            value = _awaited(task.entry(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 boundary: a task may raise anything
            return self._classify(request, error)
        task.on_success(value, id, args, kwargs)
        task_success.send(sender=task, result=value)
        return _End(SUCCESS, value)

    def _classify(self, request: Context, error: BaseException) -> _End:
        task, id, args, kwargs = self._task, str(request.id), tuple(request.args or ()), dict(request.kwargs or {})
        try:
            task.autoretry(error)
        except Exception as instead:  # noqa: BLE001 boundary: Retry, Reject, or the task's error again
            error = instead
        if isinstance(error, Ignore):
            return _End(IGNORED, None)
        if isinstance(error, Reject):
            return _End(REJECTED, error)
        text = "".join(tracebacks.format_exception(error))
        if isinstance(error, Retry):
            task.on_retry(error.exc or error, id, args, kwargs, text)
            task_retry.send(sender=task, request=request, reason=error, einfo=text)
            return _End(RETRY, error, text)
        task.on_failure(error, id, args, kwargs, text)
        task_failure.send(
            sender=task,
            task_id=id,
            exception=error,
            args=args,
            kwargs=kwargs,
            traceback=error.__traceback__,
            einfo=text,
        )
        return _End(FAILURE, error, text)

    def _store(self, request: Context, end: _End) -> None:
        ignored = request.ignore_result if request.ignore_result is not None else self._task.ignore_result
        if not self._task.store_eager_result or ignored or end.state not in READY_STATES:
            return
        done = datetime.now(UTC).isoformat()
        meta = ResultMeta(
            task_id=str(request.id),
            status=end.state,
            result=end.value,
            traceback=end.traceback,
            children=[child.as_tuple() for child in request.children],
            date_done=done,
        )
        self._app.backend.store(meta)

    def _call(self, key: str, args: list[Any], request: Context) -> None:
        for each in signature_list(self._options.get(key), key) or ():
            maybe_signature(each, self._app).apply(args, root_id=request.root_id, parent_id=request.id)

    def _go_on(self, value: Any) -> None:
        rest = signature_list(self._options.get("chain"), "chain")
        if rest:
            *later, following = rest
            maybe_signature(following, self._app).apply([value], chain=later)


def run_eagerly(
    app: Opsq,
    task: Task[..., Any],
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    throw: bool | None = None,
) -> EagerResult[Any]:
    """Run a call right here. Raises: the task's error with ``throw``; UsageError for unusable arguments."""
    if args is not None and not isinstance(args, (list, tuple)):
        raise UsageError(f"args of a call of {task.name!r} is a list or tuple, got {args!r:.80}")
    propagate = app.settings.task_eager_propagates if throw is None else throw
    return EagerRun(app, task, options, propagate).run(args, kwargs)


def _awaited(value: Any) -> Any:
    """The value itself, or what its coroutine returns, run on an event loop of its own."""
    if not isinstance(value, Coroutine):
        return value
    # By name: importing asyncio would cost every `import opsq` more than all the rest.
    run: Any = plugins.resolve("asyncio:run")
    return run(value)
