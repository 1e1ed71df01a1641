"""Publish calls: one or many, with their events, signals, lineage and handles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from opsq.broker.message import OutMessage
from opsq.broker.retry import NO_RETRY, RetryPolicy, retry_policy
from opsq.core.backends.registry import scheme_of
from opsq.core.call_options import check_task_id
from opsq.core.calls import Built
from opsq.core.canvas import Planned, Planner, Step
from opsq.core.canvas_stream import Stream
from opsq.core.chord_store import open_chord
from opsq.core.lazy_results import LazyResults
from opsq.core.lazy_tasks import LazyTasks
from opsq.core.origin import new_id
from opsq.core.progress import progress_of
from opsq.core.request import Context, calling_request, note_child
from opsq.core.result import AsyncResult
from opsq.core.result_set import GroupResult, result_from_ref
from opsq.core.task import Task
from opsq.errors import ConfigError, UsageError
from opsq.settings import Settings
from opsq.signals import after_task_publish, before_task_publish, task_sent
from opsq.wire.result import ResultRef
from opsq.wire.signature import parse_signature

if TYPE_CHECKING:
    from opsq.core.app import Opsq


class Voice(Protocol):
    """How a running task is heard, see ``core/worker/voice.py``."""

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Say an event."""
        ...

    def progress(self, task_id: str, fields: Mapping[str, Any], *, last: bool = False) -> None:
        """Say how far a task is."""
        ...


CallParts = tuple[str, Sequence[Any] | None, Mapping[str, Any] | None, dict[str, Any]]
MESSAGES_PER_BATCH: Final = 500
_HOW: Final = ("publisher", "retry", "retry_policy", "timeout", "confirm_timeout")


class Sender:
    """Publishes the calls of one app. Thread: any."""

    def __init__(self, app: Opsq, settings: Settings) -> None:
        self._app = app
        #: What tasks of this process speak with, once a worker runs them here.
        self.voice: Voice | None = None
        #: What completes and fails chords, once a worker runs tasks here.
        self.chords: Any = None
        self._inherit_priority = settings.task_inherit_parent_priority
        self._header_errbacks = settings.task_allow_error_cb_on_chord_header
        self._results_are_messages = scheme_of(settings.resolved_result_backend() or "") == "rpc"

    def send(
        self,
        name: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: dict[str, Any],
        task: Any = None,
    ) -> AsyncResult[Any]:
        """Publish one call and return the handle of its result. ``options`` may be changed.

        Raises: UsageError for a call that cannot be, BrokerUnavailable when it could not be published.
        """
        if (task_id := options.get("task_id")) is not None:
            check_task_id(task_id)
        request = calling_request()
        if request is not None:
            self._descend(request, options)
        app = self._app
        built = app.caller.build(name, args, kwargs, options, task)
        messages = [built.message]
        if built.event is not None:
            messages.append(app.caller.event_message(built.event))
        self._publish(messages, [built], options)
        result = self._handle(built)
        note_child(result, options)
        return result

    def send_many(self, calls: Iterable[CallParts]) -> list[AsyncResult[Any]]:
        """Publish many calls in batches; the events of a batch share one message.

        calls: (task name, args, kwargs, options). Returns: the handles, in order.
        Raises: UsageError before anything of the batch with the bad call is published,
        BrokerUnavailable.
        """
        results: list[AsyncResult[Any]] = []

        def keep(built: Built, options: Mapping[str, Any]) -> None:
            results.append(self._handle(built))
            note_child(results[-1], options)

        self.send_each(calls, keep)
        return results

    def send_each(
        self, calls: Iterable[CallParts], keep: Callable[[Built, Mapping[str, Any]], object] | None = None
    ) -> None:
        """As ``send_many``, but no handle is made; keep: is given each message and its options."""
        app = self._app
        request = calling_request()
        batch: list[Built] = []
        how: Mapping[str, Any] = {}
        for name, args, kwargs, options in calls:
            if (task_id := options.get("task_id")) is not None:
                check_task_id(task_id)
            if request is not None:
                self._descend(request, options)
            built = app.caller.build(name, args, kwargs, options, app.tasks.get(name))
            if batch and _how(options) != _how(how):
                self._publish_batch(batch, how)
                batch = []
            how = options
            batch.append(built)
            if keep is not None:
                keep(built, options)
            if len(batch) >= MESSAGES_PER_BATCH:
                self._publish_batch(batch, how)
                batch = []
        self._publish_batch(batch, how)

    def send_workflow(
        self,
        sig: Mapping[str, Any],
        args: Sequence[Any],
        options: Mapping[str, Any],
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Publish a chain, group or chord and return its handle.

        options: of the call; ``progress`` as of ``send_stream``.
        Raises: MalformedMessage naming the place of a fault; as ``send``.
        """
        options = dict(options)
        progress = options.pop("progress", None)
        plan = self.planner(new_id).plan(parse_signature(sig), args, options, kwargs)
        report = progress_of(progress, len(plan.calls) if progress else None)
        self.publish_steps(report(plan.steps))
        return self._gathered(plan.result, options)

    def send_stream(
        self,
        tasks: LazyTasks,
        own_args: Sequence[Any],
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Publish a group, or with ``body`` a chord, whose tasks are made while they are published.

        options: of the call; ``progress`` true shows a bar on a terminal, a function is called with the
        number published so far. Returns: the handle; those of the members are made when asked for.
        Raises: as ``send``, when what came before is published already.
        """
        options = dict(options)
        report = progress_of(options.pop("progress", None))
        stream = Stream(self.planner(new_id), parse_signature(body) if body is not None else None, options)
        every = (*(args or ()), *own_args)
        self.publish_steps(report(stream.steps(tasks.once(), every, kwargs)))
        header: Any = GroupResult(
            stream.group_id, LazyResults(stream.group_id, stream.refs, stream.size, self._app), app=self._app
        )
        result = header
        if stream.end is not None:
            result = result_from_ref(stream.end, self._app)
            first = result
            while first.parent is not None:
                first = first.parent
            first.parent = header
        note_child(header, options)
        return result

    def planner(self, new_id: Callable[[], str]) -> Planner:
        """A planner for this app's workflows, with ids from ``new_id``."""
        return Planner(new_id, self._app.origin.thread_oid, self._header_errbacks)

    def publish_steps(self, steps: Iterable[Step]) -> None:
        """Publish what a plan lists, in order, in batches. Raises: as ``send``."""
        self.send_each(
            (call.task, call.args, call.kwargs, self._merged(call.task, call.options))
            for call in _of_one_root(self._opened(steps))
        )

    def _opened(self, steps: Iterable[Step]) -> Iterator[Planned]:
        """The calls of a plan; chords are opened in the result store on the way."""
        for step in steps:
            if isinstance(step, Planned):
                yield step
                continue
            unlock = open_chord(self._app, step)
            if unlock is not None:
                yield unlock

    def _gathered(self, ref: ResultRef, options: Mapping[str, Any]) -> Any:
        result = result_from_ref(ref, self._app)
        if calling_request() is not None:
            while ref.parent is not None:
                ref = ref.parent
            note_child(result_from_ref(ref, self._app), options)
        return result

    def parts_of(self, call: Any) -> CallParts:
        """Read a signature, or a tuple (task name, args, kwargs, options) whose end may be missing."""
        if isinstance(call, Mapping):
            name, args, kwargs, options = call["task"], call["args"], call["kwargs"], call["options"]
        else:
            parts: list[Any] = [*call, None, None, None]
            name, args, kwargs, options = parts[:4]
        return name, args, kwargs, self._merged(name, options or {})

    def _handle(self, built: Built) -> AsyncResult[Any]:
        headers = built.message.headers
        task = self._app.tasks.get(headers["task"])
        result: AsyncResult[Any]
        if task is not None and type(task).AsyncResult is not Task.AsyncResult:
            result = task.AsyncResult(built.id)  # a handle that does more, such as abort
        else:
            result = AsyncResult(built.id, app=self._app, task_name=headers["task"])
        result.ignored = bool(headers["ignore_result"])
        return result

    def _merged(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        task = self._app.tasks.get(name)
        return {**(task.call_options() if task is not None else {}), **options}

    def send_event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Publish one event of the caller's own; a running task's goes the way of its worker's events.

        Raises: BrokerUnavailable outside of a run.
        """
        if self.voice is not None and calling_request() is not None:
            self.voice.event(kind, fields)
            return
        self._app.publisher.publish(self._app.caller.own_event_message(kind, fields))

    def _publish_batch(self, batch: list[Built], how: Mapping[str, Any]) -> None:
        """Publish calls together. how: options of one of them, which are the same for all as far as ``_how`` goes."""
        if not batch:
            return
        messages = [built.message for built in batch]
        events = [built.event for built in batch if built.event is not None]
        if events:
            messages.append(self._app.caller.events_message(events))
        self._publish(messages, batch, how)

    def _publish(self, messages: list[OutMessage], calls: list[Built], options: Mapping[str, Any]) -> None:
        if before_task_publish.receivers:
            for built in calls:
                _signal_before(built, options)
        if self._results_are_messages and calling_request() is None:
            self._expect_results(calls)
        publisher = options.get("publisher") or self._app.publisher
        publisher.publish_many(messages, deadline_s=_deadline_s(options), retry=_policy(options))
        if after_task_publish.receivers or task_sent.receivers:
            for built in calls:
                _signal_after(built)

    def _expect_results(self, calls: list[Built]) -> None:
        """Open this thread's queue for results before anybody can answer."""
        backend: Any = self._app.backend.backend
        for built in calls:
            if not built.message.headers["ignore_result"]:
                backend.expect(built.message.properties["reply_to"])

    def _descend(self, request: Context, options: dict[str, Any]) -> None:
        """Make the call a child of the running task."""
        if options.get("root_id") is None:
            options["root_id"] = request.root_id or request.id
        # A retry or replacement keeps its id: it is not a child of itself.
        if options.get("parent_id") is None and options.get("task_id") != request.id:
            options["parent_id"] = request.id
        if self._inherit_priority and options.get("priority") is None:
            options["priority"] = (request.delivery_info or {}).get("priority")


def _of_one_root(calls: Iterable[Planned]) -> Iterator[Planned]:
    """Make the first of several calls the root of all, where no running task is: a monitor sees that they belong
    together, and so do the workers that publish what follows them.
    """
    root: str | None = None
    inside = calling_request() is not None
    for call in calls:
        if inside or call.options.get("root_id") is not None:
            yield call
            continue
        root = root or call.options.get("task_id")
        yield call._replace(options={**call.options, "root_id": root})


def _how(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a call's options says how it is published; calls that agree in it go together."""
    return tuple(map(options.get, _HOW))


def _deadline_s(options: Mapping[str, Any]) -> float | None:
    timeout = options.get("timeout")
    return options.get("confirm_timeout") if timeout is None else timeout


def _policy(options: Mapping[str, Any]) -> RetryPolicy | None:
    """How this call is published again; none leaves it to the app's publisher."""
    if options.get("retry") is False:
        return NO_RETRY
    policy = options.get("retry_policy")
    if policy is None:
        return None
    try:
        return retry_policy(policy)
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _signal_before(built: Built, options: Mapping[str, Any]) -> None:
    message = built.message
    before_task_publish.send(
        sender=message.headers["task"],
        body=(built.body.args, built.body.kwargs, built.body.embed),
        exchange=message.exchange,
        routing_key=message.routing_key,
        # Receivers put headers of their own in here: tracing libraries do.
        headers=message.headers,
        properties=message.properties,
        declare=[message.declare] if message.declare is not None else [],
        retry_policy=options.get("retry_policy"),
    )


def _signal_after(built: Built) -> None:
    message = built.message
    name = message.headers["task"]
    after_task_publish.send(
        sender=name,
        body=(built.body.args, built.body.kwargs, built.body.embed),
        headers=message.headers,
        exchange=message.exchange,
        routing_key=message.routing_key,
    )
    task_sent.send(
        sender=name,
        task_id=built.id,
        task=name,
        args=built.body.args,
        kwargs=built.body.kwargs,
        eta=message.headers.get("eta"),
        taskset=message.headers.get("group"),
    )
