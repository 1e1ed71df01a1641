"""What follows a run: callbacks, the rest of a chain, error callbacks.

Planned before the result is stored, published after it. The id of everything that follows is fixed
by the parent's id and the position, so a run that is repeated after a crash publishes the same ids
again, and a client that holds one of them waits for the right thing.

Source: celery-protocol A.6.
"""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from opsq.broker.message import Delivery
from opsq.core.canvas import Opening, Step
from opsq.core.canvas_options import known_options
from opsq.core.pools.base import Job
from opsq.core.request import Context, context_from_message
from opsq.core.worker.chords import Chords
from opsq.core.worker.load import Loader
from opsq.core.worker.record import Recorder
from opsq.errors import OpsqError, WireError
from opsq.wire.result import ResultRef
from opsq.wire.signature import parse_signature
from opsq.wire.task import TaskHeaders

log = logging.getLogger(__name__)


class Next(msgspec.Struct, frozen=True):
    """One thing to publish, planned. result: the handle of its end."""

    steps: tuple[Step, ...]
    result: ResultRef

    def root(self) -> ResultRef:
        """The handle of what is published first."""
        ref = self.result
        while ref.parent is not None:
            ref = ref.parent
        return ref


def child_id(parent: str, position: str) -> str:
    """The id of what follows ``parent`` at ``position``, the same at every repetition."""
    try:
        space = uuid.UUID(parent)
    except ValueError:
        space = uuid.uuid5(uuid.NAMESPACE_OID, parent)
    return str(uuid.uuid5(space, position))


class Follower:
    """Plans and publishes what follows. Thread: any. app: the opsq app."""

    def __init__(self, app: Any, recorder: Recorder, loader: Loader) -> None:
        self._app = app
        self._recorder = recorder
        self._loader = loader
        self._inherit_priority = app.settings.task_inherit_parent_priority
        self.chords = Chords(app, recorder, self)

    def after_success(self, headers: TaskHeaders, request: Context, result: object) -> list[Next]:
        """Plan the callbacks and the next link of the chain. Raises: MalformedMessage."""
        plan = []
        callbacks = _list(request.callbacks)
        group_id = child_id(headers.id, "callbacks") if len(callbacks) > 1 else None
        for position, signature in enumerate(callbacks):
            more = {"group_id": group_id, "group_index": position} if group_id is not None else {}
            plan.append(self._next(headers, request, signature, f"link:{position}", (result,), more))
        chain = _list(request.chain)
        if chain:
            plan.append(self._next(headers, request, chain[-1], "chain", (result,), {"chain": chain[:-1] or None}))
        return plan

    def after_failure(self, headers: TaskHeaders, request: Context) -> list[Next]:
        """Plan the error callbacks that are messages; ``call_errbacks`` runs the others."""
        return [
            self._next(headers, request, signature, f"errback:{position}", (headers.id,), {})
            for position, signature in enumerate(_list(request.errbacks))
            if self._in_process(signature) is None
        ]

    def call_errbacks(self, request: Context, exc: BaseException, traceback: str | None) -> None:
        """Call the error callbacks that take ``(request, exc, traceback)`` right here, without a message."""
        for signature in _list(request.errbacks):
            function = self._in_process(signature)
            if function is None:
                continue
            try:
                function(request, exc, traceback, *_list(signature.get("args")), **(signature.get("kwargs") or {}))
            except Exception:  # boundary: an error callback's own error changes nothing for the task
                log.exception("an error callback failed", extra={"callback": signature.get("task")})

    def fail_chain(self, headers: TaskHeaders, request: Context, exc: BaseException, traceback: str | None) -> None:
        """Store FAILURE for what will never run, or its clients would wait for ever.

        Raises: BackendUnavailable.
        """
        self.chords.fail_later(_list(request.chain), headers, exc, traceback)

    def publish(self, plan: Sequence[Next], headers: Mapping[str, Any] | None = None) -> None:
        """Publish what was planned, in order. headers: added to each call.

        Raises: BrokerUnavailable, UsageError.
        """
        for item in plan:
            self._app.sender.publish_steps(_known(item.steps, headers))

    def handles(self, plan: Sequence[Next]) -> list[Any]:
        """The handles of what was planned, as children of whoever publishes it."""
        return [self._app.result_from_ref(item.root()) for item in plan]

    def body(self, signature: dict[str, Any], args: Sequence[Any], group_id: str, by: TaskHeaders | None) -> list[Next]:
        """Plan the body of a chord. by: the header task that completes it. Raises: MalformedMessage."""
        node = parse_signature(signature)
        options: dict[str, Any] = {}
        if by is not None:
            options = {"root_id": by.root_id or by.id, "parent_id": by.id}
            if by.stamped_headers and not node.options.get("stamped_headers"):
                options.update(stamped_headers=by.stamped_headers, **by.stamps)
        return [self._planned(node, tuple(args), options, group_id, "body")]

    def tell_errbacks(self, headers: TaskHeaders, request: Context, exc: BaseException, text: str | None) -> None:
        """Publish and call the error callbacks of a call that will never run. Raises: BrokerUnavailable."""
        self.publish(self.after_failure(headers, request))
        self.call_errbacks(request, exc, text)

    def after_death(self, job: Job, headers: TaskHeaders, exc: BaseException) -> None:
        """Do for a run that was killed what its slot would have done after a failure."""
        self._after_end(job, headers, exc, "FAILURE", errbacks=True)

    def after_refusal(self, job: Job | Delivery, headers: TaskHeaders, exc: BaseException, state: str) -> None:
        """Tell those who wait for a task that will not be run: the rest of its chain, and its chord."""
        self._after_end(job, headers, exc, state, errbacks=state == "FAILURE")

    def _after_end(
        self, job: Job | Delivery, headers: TaskHeaders, exc: BaseException, state: str, errbacks: bool
    ) -> None:
        try:
            _, body = self._loader.load(job)
            delivery_info = job.delivery_info if isinstance(job, Job) else {}
            request = context_from_message(headers, body, delivery_info=delivery_info, properties=job.properties)
            self.fail_chain(headers, request, exc, None)
            if errbacks:
                self.tell_errbacks(headers, request, exc, None)
            self.chords.part(headers, request, state, exc)
        except (WireError, OpsqError) as broken:
            log.error("what follows a failure could not be done", extra={"task_id": headers.id, "error": str(broken)})

    def _next(
        self,
        headers: TaskHeaders,
        request: Context,
        signature: dict[str, Any],
        position: str,
        args: tuple[Any, ...],
        more: dict[str, Any],
    ) -> Next:
        node = parse_signature(signature)
        own = node.options
        options: dict[str, Any] = {
            "root_id": headers.root_id or headers.id,
            "parent_id": headers.id,
            **{key: value for key, value in more.items() if value is not None and own.get(key) is None},
        }
        priority = (request.delivery_info or {}).get("priority")
        if self._inherit_priority and priority and own.get("priority") is None:
            options["priority"] = priority
        if headers.stamped_headers:
            names = list(dict.fromkeys([*(own.get("stamped_headers") or ()), *headers.stamped_headers]))
            given = {name: value for name, value in headers.stamps.items() if name not in own}
            node = msgspec.structs.replace(node, options={**own, **given, "stamped_headers": names})
        return self._planned(node, args, options, headers.id, position)

    def _planned(self, node: Any, args: tuple[Any, ...], options: dict[str, Any], parent: str, position: str) -> Next:
        plan = self._app.sender.planner(_Ids(parent, position)).plan(node, args, options)
        return Next(plan.steps, plan.result)

    def _in_process(self, signature: dict[str, Any]) -> Callable[..., Any] | None:
        """The function to call for an error callback of the new form; None when it is a message."""
        task = self._app.tasks.get(signature.get("task")) if isinstance(signature, Mapping) else None
        if task is None or getattr(task, "bind", False):
            return None
        try:
            parameters = inspect.signature(task.run).parameters.values()
        except (TypeError, ValueError):
            return None
        if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
            takes = 3
        else:
            takes = sum(1 for each in parameters if each.kind in _POSITIONAL)
        function: Callable[..., Any] = task.run
        return function if takes - len(_list(signature.get("args"))) > 1 else None


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _Ids:
    """Ids that are the same at every repetition: of ``parent``, by position and count."""

    def __init__(self, parent: str, position: str) -> None:
        self._parent = parent
        self._position = position
        self._count = 0

    def __call__(self) -> str:
        count, self._count = self._count, self._count + 1
        return child_id(self._parent, f"{self._position}.{count}" if count else self._position)


def _known(steps: Sequence[Step], headers: Mapping[str, Any] | None) -> Iterator[Step]:
    """Steps with the options that a call knows; a signature of another library's version may hold more."""
    for step in steps:
        if isinstance(step, Opening):
            yield step
            continue
        options = known_options(step.options)
        if headers:
            options["headers"] = {**(options.get("headers") or {}), **headers}
        yield step._replace(options=options)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
