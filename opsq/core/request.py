"""What a running task knows about its own call: ``task.request``.

One context variable holds the frame of the task that runs here, per thread and per asyncio task, so
pools of every kind get it right without knowing about it. The frames are linked: a task that calls
another task's function directly sees its own request again afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from opsq.core.task import Task
    from opsq.wire.task import TaskBody, TaskHeaders


class Context:
    """The request of one attempt, under Celery's attribute names.

    Every field has a default, so a task that is called directly has a request as well
    (``called_directly`` is true then). User headers are readable as attributes.

    timelimit: (hard, soft) in seconds. retries: 0 in the first attempt. delivery_info: exchange,
    routing_key, priority, redelivered. children: results of the calls this attempt made.
    Thread: belongs to the slot that runs the attempt.
    """

    id: str | None = None
    task: str | None = None
    args: list[Any] | tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None
    root_id: str | None = None
    parent_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    origin: str | None = None
    hostname: str | None = None
    shadow: str | None = None
    eta: str | None = None
    expires: str | None = None
    retries: int = 0
    timelimit: tuple[float | None, float | None] = (None, None)
    ignore_result: bool | None = None
    group: str | None = None
    group_index: int | None = None
    callbacks: list[dict[str, Any]] | None = None
    errbacks: list[dict[str, Any]] | None = None
    chain: list[dict[str, Any]] | None = None
    chord: dict[str, Any] | None = None
    headers: Mapping[str, Any] | None = None
    properties: Mapping[str, Any] | None = None
    delivery_info: Mapping[str, Any] | None = None
    stamped_headers: list[str] | None = None
    stamps: Mapping[str, Any] | None = None
    replaced_task_nesting: int = 0
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    is_eager: bool = False
    called_directly: bool = True
    utc: bool = True
    logfile: str | None = None
    loglevel: int | None = None
    taskset: str | None = None
    before_retry: Callable[[Any], None] | None = None
    children: list[Any]

    def __init__(self, **fields: Any) -> None:
        self.children = []
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that are neither set nor a default: user headers.
        headers = self.__dict__.get("headers")
        if headers is not None and name in headers:
            return headers[name]
        raise AttributeError(f"the request has no field or header {name!r}")

    def __repr__(self) -> str:
        return f"<Context: {self.task}[{self.id}] attempt {self.retries + 1}>"

    @property
    def time_limit(self) -> float | None:
        """Hard time limit of this call in seconds; none means the task's own."""
        return self.timelimit[0]

    @property
    def soft_time_limit(self) -> float | None:
        """Soft time limit of this call in seconds; none means the task's own."""
        return self.timelimit[1]

    def get(self, name: str, default: Any = None) -> Any:
        """Read a field or user header, or ``default`` when there is none."""
        return getattr(self, name, default)

    def update(self, **fields: Any) -> None:
        """Set fields, as a task may do with ``update_state`` bookkeeping of its own."""
        self.__dict__.update(fields)


def context_from_message(
    headers: TaskHeaders,
    body: TaskBody,
    *,
    delivery_info: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    hostname: str | None = None,
    is_eager: bool = False,
) -> Context:
    """Build the request of one attempt from its decoded message.

    Thread: any; pure. The lists of ``body`` are shared, not copied.
    """
    embed = body.embed
    properties = properties or {}
    return Context(
        id=headers.id,
        task=headers.task,
        args=body.args,
        kwargs=body.kwargs,
        root_id=headers.root_id or headers.id,
        parent_id=headers.parent_id,
        correlation_id=properties.get("correlation_id", headers.id),
        reply_to=properties.get("reply_to"),
        origin=headers.origin,
        hostname=hostname,
        shadow=headers.shadow,
        eta=headers.eta,
        expires=headers.expires,
        retries=headers.retries,
        timelimit=tuple(headers.timelimit),
        ignore_result=headers.ignore_result,
        group=headers.group,
        taskset=headers.group,
        group_index=headers.group_index,
        callbacks=embed.callbacks,
        errbacks=embed.errbacks,
        chain=embed.chain,
        chord=embed.chord,
        headers=headers.user,
        properties=properties,
        delivery_info=delivery_info or {},
        stamped_headers=headers.stamped_headers,
        stamps=headers.stamps,
        replaced_task_nesting=headers.replaced_task_nesting,
        argsrepr=headers.argsrepr,
        kwargsrepr=headers.kwargsrepr,
        is_eager=is_eager,
        called_directly=False,
    )


class Frame(NamedTuple):
    """One task that runs here, above the one that called it directly."""

    task: Task[..., Any]
    request: Context
    outer: Frame | None


_FRAME: ContextVar[Frame | None] = ContextVar("opsq_running_task", default=None)
_JOIN_ALLOWED: ContextVar[bool] = ContextVar("opsq_join_allowed", default=False)

FrameToken = Token["Frame | None"]


def push(task: Task[..., Any], request: Context) -> FrameToken:
    """Make ``task`` the running one; give the token to ``pop``. Thread: the slot's."""
    return _FRAME.set(Frame(task, request, _FRAME.get()))


def pop(token: FrameToken) -> None:
    """End what ``push`` began, in the same thread and asyncio task."""
    _FRAME.reset(token)


@contextmanager
def running(task: Task[..., Any], request: Context) -> Iterator[Context]:
    """Make ``task`` the running one for the block; ``task.request`` is ``request`` inside."""
    token = push(task, request)
    try:
        yield request
    finally:
        pop(token)


def current_frame() -> Frame | None:
    """The innermost running task of this thread or asyncio task, or none."""
    return _FRAME.get()


def request_of(name: str | None) -> Context | None:
    """The request of the innermost running task called ``name``, or none when it does not run here."""
    frame = _FRAME.get()
    while frame is not None:
        if frame.task.name == name:
            return frame.request
        frame = frame.outer
    return None


def calling_request() -> Context | None:
    """The request that new calls descend from: the innermost that came as a message or eagerly."""
    frame = _calling_frame()
    return frame.request if frame is not None else None


def note_child(result: Any, options: Mapping[str, Any]) -> None:
    """Have the running task keep ``result`` among its children, unless it, or the call's ``options``, want none."""
    frame = _calling_frame()
    if frame is not None and frame.task.trail and options.get("add_to_parent", True):
        frame.request.children.append(result)


def _calling_frame() -> Frame | None:
    frame = _FRAME.get()
    while frame is not None and frame.request.called_directly:
        frame = frame.outer
    return frame


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Permit ``result.get()`` inside a task, for the block.

    A task that waits for another holds its slot; enough of them and nobody is left to do the work.
    """
    token = _JOIN_ALLOWED.set(True)
    try:
        yield
    finally:
        _JOIN_ALLOWED.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Forbid ``result.get()`` inside a task again, for the block."""
    token = _JOIN_ALLOWED.set(False)
    try:
        yield
    finally:
        _JOIN_ALLOWED.reset(token)


def join_is_forbidden() -> bool:
    """Tell whether waiting for a result here would block a slot."""
    if _JOIN_ALLOWED.get():
        return False
    request = calling_request()
    return request is not None and not request.is_eager
