"""The queues of an app by name: those it declares and those made up when a call names them. Pure."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import structs

from opsq.broker.topology import ExchangeSpec, QueueSpec, from_kombu
from opsq.core.task_options import did_you_mean
from opsq.errors import ConfigError, UsageError
from opsq.settings import Settings


class QueueNotFound(UsageError, KeyError):
    """A call names a queue that is not declared, and ``task_create_missing_queues`` is off."""

    def __str__(self) -> str:
        return str(self.args[0])


class Queues(Mapping[str, QueueSpec]):
    """Queues by name.

    declared: what ``task_queues`` lists, or the default queue alone; a worker consumes these.
    Thread: any; queues are added under a lock.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._default_exchange = settings.task_default_exchange or settings.task_default_queue
        listed = _read_list(settings.task_queues)
        if listed is None:
            listed = [self._default_queue()]
        self.declared = tuple(self._completed(queue) for queue in listed)
        self._all = {queue.name: queue for queue in self.declared}

    def __getitem__(self, name: str) -> QueueSpec:
        found = self._all.get(name)
        if found is None:
            found = self._make(name)
            with self._lock:
                found = self._all.setdefault(name, found)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, name: object) -> bool:
        return name in self._all

    @property
    def default(self) -> QueueSpec:
        """The queue of tasks that no route names another for."""
        return self[self._settings.task_default_queue]

    def add(self, queue: Any) -> QueueSpec:
        """Declare one more queue: a QueueSpec, a kombu Queue or a name."""
        spec = self._completed(from_kombu(queue))
        with self._lock:
            self._all[spec.name] = spec
        return spec

    def select(self, names: Iterable[str], exclude: Iterable[str] = ()) -> tuple[QueueSpec, ...]:
        """The queues to consume: those named, or all declared, without the excluded.

        Raises: ConfigError when a name is unknown and may not be made up.
        """
        wanted = tuple(names)
        left_out = frozenset(exclude)
        try:
            chosen = tuple(self[name] for name in wanted) if wanted else self.declared
        except QueueNotFound as error:
            raise ConfigError(str(error)) from None
        return tuple(queue for queue in chosen if queue.name not in left_out)

    def _default_queue(self) -> QueueSpec:
        settings = self._settings
        arguments = {"x-queue-type": "quorum"} if settings.task_default_queue_type == "quorum" else {}
        return QueueSpec(
            name=settings.task_default_queue,
            exchange=ExchangeSpec(name=self._default_exchange, type=settings.task_default_exchange_type),
            routing_key=settings.task_default_routing_key or settings.task_default_queue,
            arguments=arguments,
        )

    def _make(self, name: str) -> QueueSpec:
        settings = self._settings
        if name == settings.task_default_queue:
            return self._completed(self._default_queue())
        if not settings.task_create_missing_queues:
            raise QueueNotFound(
                f"queue {name!r} is not in task_queues and task_create_missing_queues is off"
                f"{did_you_mean(name, self._all)}"
            )
        kind = settings.task_create_missing_queue_exchange_type or "direct"
        arguments = {"x-queue-type": "quorum"} if settings.task_create_missing_queue_type == "quorum" else {}
        return self._completed(
            QueueSpec(name=name, exchange=ExchangeSpec(name=name, type=kind), routing_key=name, arguments=arguments)
        )

    def _completed(self, queue: QueueSpec) -> QueueSpec:
        """Fill in what the settings say for queues that do not say it themselves."""
        settings = self._settings
        changes: dict[str, Any] = {}
        if queue.exchange is None and not queue.bindings:
            changes["exchange"] = ExchangeSpec(name=self._default_exchange, type=settings.task_default_exchange_type)
        if not queue.routing_key:
            changes["routing_key"] = settings.task_default_routing_key or queue.name
        if queue.max_priority is None and settings.task_queue_max_priority is not None:
            changes["max_priority"] = settings.task_queue_max_priority
        return structs.replace(queue, **changes) if changes else queue


def _read_list(value: Any) -> list[QueueSpec] | None:
    """Read ``task_queues``: names, queues, mappings, or a mapping of name to options."""
    if not value:
        return None
    if isinstance(value, str):
        return [from_kombu(name.strip()) for name in value.split(",") if name.strip()]
    if isinstance(value, Mapping):
        return [from_kombu({"name": name, **(options or {})}) for name, options in value.items()]
    if not isinstance(value, Iterable):
        raise ConfigError(f"task_queues is a list of queues or a table of name to options, got {value!r}")
    return [from_kombu(queue) for queue in value]
