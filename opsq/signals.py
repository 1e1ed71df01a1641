"""Celery's signals: call a function when something happens in this process.

One of the two modules that hold process-wide state (design.md decision 1): receivers are attached
here at import time, before any app exists. Receivers are held weakly unless ``weak=False``; what a
receiver raises is logged and never reaches the sender. Sending to nobody costs one attribute look-up.

    @task_failure.connect
    def page_somebody(sender=None, task_id=None, exception=None, **kwargs): ...
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

from opsq.errors import UsageError

logger = logging.getLogger(__name__)

Receiver = Callable[..., Any]
R = TypeVar("R", bound=Receiver)


class _Link(NamedTuple):
    key: object
    sender_key: object
    ref: Callable[[], Receiver | None]


def _key_of(thing: Any) -> object:
    # A bound method is a new object at each access; its parts are not.
    inner = getattr(thing, "__func__", None)
    return (id(thing.__self__), id(inner)) if inner is not None else id(thing)


def _sender_key(sender: Any) -> object:
    """Compare strings by value, tasks by name, everything else by identity."""
    if sender is None:
        return None
    if isinstance(sender, str):
        return sender
    name = getattr(sender, "name", None)
    return name if isinstance(name, str) else id(sender)


class Signal:
    """One thing that can happen.

    name: as in Celery. providing_args: keyword arguments that receivers get beside ``signal`` and
    ``sender``.
    Thread: any. Receivers run in the thread that sends.
    """

    __slots__ = ("_links", "_lock", "name", "providing_args")

    def __init__(self, name: str, providing_args: tuple[str, ...] = ()) -> None:
        self.name = name
        self.providing_args = frozenset(providing_args)
        self._links: tuple[_Link, ...] = ()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Signal: {self.name} ({len(self._links)} receivers)>"

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """Who listens now; empty means that sending may be skipped."""
        return tuple(found for link in self._links if (found := link.ref()) is not None)

    def has_listeners(self, sender: Any = None) -> bool:
        """Tell whether anybody listens for this sender."""
        key = _sender_key(sender)
        return any(link.sender_key is None or link.sender_key == key for link in self._links)

    @overload
    def connect(self, receiver: R) -> R: ...

    @overload
    def connect(
        self, *, sender: Any = ..., weak: bool = ..., dispatch_uid: object = ..., retry: bool = ...
    ) -> Callable[[R], R]: ...

    @overload
    def connect(
        self, receiver: R, sender: Any = ..., weak: bool = ..., dispatch_uid: object = ..., retry: bool = ...
    ) -> R: ...

    def connect(
        self,
        receiver: Any = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: object = None,
        retry: bool = False,
    ) -> Any:
        """Call ``receiver(signal=…, sender=…, **arguments)`` from now on; usable as a decorator.

        sender: only for this sender (an object, or a task or node name). weak: forget the receiver
        when nobody else holds it. dispatch_uid: connecting again under the same value replaces.
        retry: call again once when the receiver fails.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender, weak, dispatch_uid, retry)
        if not callable(receiver):
            raise UsageError(f"signal {self.name} needs a function to call, got {receiver!r}")
        key = (dispatch_uid if dispatch_uid is not None else _key_of(receiver), _sender_key(sender))
        link = _Link(key, _sender_key(sender), self._reference(receiver, weak, retry))
        with self._lock:
            self._links = (*(old for old in self._links if old.key != key), link)
        return receiver

    def disconnect(self, receiver: Receiver | None = None, sender: Any = None, dispatch_uid: object = None) -> bool:
        """Stop calling ``receiver``; tells whether it was connected."""
        key = (dispatch_uid if dispatch_uid is not None else _key_of(receiver), _sender_key(sender))
        with self._lock:
            kept = tuple(link for link in self._links if link.key != key)
            found = len(kept) != len(self._links)
            self._links = kept
        return found

    def send(self, sender: Any = None, **arguments: Any) -> list[tuple[Receiver, Any]]:
        """Call every receiver; returns (receiver, its value or its error) for each."""
        links = self._links
        if not links:
            return []
        key = _sender_key(sender)
        answers: list[tuple[Receiver, Any]] = []
        for link in links:
            receiver = link.ref()
            if receiver is None or (link.sender_key is not None and link.sender_key != key):
                continue
            try:
                answers.append((receiver, receiver(signal=self, sender=sender, **arguments)))
            except Exception as error:  # boundary: a receiver's fault is its own
                logger.exception("Signal receiver failed", extra={"signal": self.name, "receiver": repr(receiver)})
                answers.append((receiver, error))
        return answers

    send_robust = send

    def _reference(self, receiver: Receiver, weak: bool, retry: bool) -> Callable[[], Receiver | None]:
        target = _once_more(receiver) if retry else receiver
        if not weak or retry:
            return lambda: target
        if hasattr(receiver, "__func__"):
            return weakref.WeakMethod(receiver, self._collect)  # has __func__, so a method
        return weakref.ref(receiver, self._collect)

    def _collect(self, dead: object) -> None:
        # Runs inside the garbage collector: taking the lock here could deadlock with `connect`, and a
        # tuple assignment that loses a race only leaves a dead link, which `send` skips.
        self._links = tuple(link for link in self._links if link.ref is not dead)


def _once_more(receiver: Receiver) -> Receiver:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return receiver(*args, **kwargs)
        except Exception:  # noqa: BLE001 boundary: the second failure is the one that is reported
            logger.warning("Signal receiver failed, calling it once more", extra={"receiver": repr(receiver)})
        return receiver(*args, **kwargs)

    return call


before_task_publish = Signal(
    "before_task_publish", ("body", "exchange", "routing_key", "headers", "properties", "declare", "retry_policy")
)
after_task_publish = Signal("after_task_publish", ("body", "headers", "exchange", "routing_key"))
task_sent = Signal("task_sent", ("task_id", "task", "args", "kwargs", "eta", "taskset"))
task_received = Signal("task_received", ("request",))
task_prerun = Signal("task_prerun", ("task_id", "task", "args", "kwargs"))
task_postrun = Signal("task_postrun", ("task_id", "task", "args", "kwargs", "retval", "state"))
task_success = Signal("task_success", ("result", "runtime"))
task_retry = Signal("task_retry", ("request", "reason", "einfo"))
task_failure = Signal("task_failure", ("task_id", "exception", "args", "kwargs", "traceback", "einfo"))
task_internal_error = Signal(
    "task_internal_error", ("task_id", "args", "kwargs", "request", "exception", "traceback", "einfo")
)
task_revoked = Signal("task_revoked", ("request", "terminated", "signum", "expired"))
task_rejected = Signal("task_rejected", ("message", "exc"))
task_unknown = Signal("task_unknown", ("message", "exc", "name", "id"))

celeryd_init = Signal("celeryd_init", ("instance", "conf", "options"))
celeryd_after_setup = Signal("celeryd_after_setup", ("instance", "conf"))
import_modules = Signal("import_modules")
worker_init = Signal("worker_init")
worker_before_create_process = Signal("worker_before_create_process")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown", ("pid", "exitcode"))
worker_ready = Signal("worker_ready")
worker_shutting_down = Signal("worker_shutting_down", ("sig", "how", "exitcode"))
worker_shutdown = Signal("worker_shutdown")
heartbeat_sent = Signal("heartbeat_sent")

setup_logging = Signal("setup_logging", ("loglevel", "logfile", "format", "colorize"))
after_setup_logger = Signal("after_setup_logger", ("logger", "loglevel", "logfile", "format", "colorize"))
after_setup_task_logger = Signal("after_setup_task_logger", ("logger", "loglevel", "logfile", "format", "colorize"))

beat_init = Signal("beat_init")
beat_embedded_init = Signal("beat_embedded_init")
eventlet_pool_started = Signal("eventlet_pool_started")
eventlet_pool_preshutdown = Signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = Signal("eventlet_pool_postshutdown")
eventlet_pool_apply = Signal("eventlet_pool_apply", ("target", "args", "kwargs"))
user_preload_options = Signal("user_preload_options", ("app", "options"))
