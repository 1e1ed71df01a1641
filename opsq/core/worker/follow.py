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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from opsq.core.call_options import AMQP_PROPERTIES, CALL_OPTIONS
from opsq.core.pools.base import Job
from opsq.core.request import Context, context_from_message
from opsq.core.worker.load import Loader
from opsq.core.worker.record import Recorder
from opsq.errors import OpsqError, WireError
from opsq.wire.signature import Call, Signature, parse_signature
from opsq.wire.task import TaskHeaders

log = logging.getLogger(__name__)


class Next(msgspec.Struct, frozen=True):
    """One call to publish. signature: as it came; args are put before its own."""

    signature: dict[str, Any]
    node: Signature
    args: tuple[Any, ...]
    options: dict[str, Any]


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
        for signature in _list(request.chain):
            options = signature.get("options") if isinstance(signature, Mapping) else None
            task_id = options.get("task_id") if isinstance(options, Mapping) else None
            if isinstance(task_id, str) and task_id:
                member = TaskHeaders(
                    id=task_id, task=str(signature.get("task")), parent_id=headers.id, root_id=headers.root_id
                )
                self._recorder.write(member, "FAILURE", exc, traceback=traceback)

    def publish(self, plan: Sequence[Next]) -> None:
        """Publish what was planned, in order. Raises: BrokerUnavailable, UsageError."""
        for item in plan:
            node = item.node
            if isinstance(node, Call):
                args = node.args if node.immutable else (*item.args, *node.args)
                self._app.send_task(node.task, args, node.kwargs, **item.options)
            else:
                signature = self._app.signature(item.signature)
                signature.apply_async(() if node.immutable else item.args, **item.options)

    def after_death(self, job: Job, headers: TaskHeaders, exc: BaseException) -> None:
        """Do for a run that was killed what its slot would have done after a failure."""
        try:
            _, body = self._loader.load(job)
            request = context_from_message(headers, body, delivery_info=job.delivery_info, properties=job.properties)
            self.fail_chain(headers, request, exc, None)
            self.publish(self.after_failure(headers, request))
            self.call_errbacks(request, exc, None)
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
            **(_call_options(own) if isinstance(node, Call) else {}),
            "task_id": own.get("task_id") or child_id(headers.id, position),
            "root_id": headers.root_id or headers.id,
            "parent_id": headers.id,
            "add_to_parent": False,
            **{key: value for key, value in more.items() if value is not None and own.get(key) is None},
        }
        priority = (request.delivery_info or {}).get("priority")
        if self._inherit_priority and priority and own.get("priority") is None:
            options["priority"] = priority
        if headers.stamped_headers and not own.get("stamped_headers"):
            options.update(stamped_headers=headers.stamped_headers, **headers.stamps)
        return Next(signature, node, args, options)

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


def _call_options(own: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a call knows; a signature of another library's version may hold more."""
    stamps = frozenset(own.get("stamped_headers") or ())
    return {key: value for key, value in own.items() if key in CALL_OPTIONS or key in AMQP_PROPERTIES or key in stamps}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
