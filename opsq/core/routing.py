"""Which queue a call goes to: ``task_routes``, the call's own options, and the anonymous-exchange rule. Pure.

Source: celery-protocol A.12. Entries of ``task_routes`` are asked in order and the first answer wins;
options of the call win over the route.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from opsq.broker.topology import QueueSpec, from_kombu
from opsq.core.queues import Queues
from opsq.errors import ConfigError, UsageError

Route = dict[str, Any]
RouteFunction = Callable[..., Any]
Resolve = Callable[[str], object]

PLACE_KEYS: Final = ("queue", "exchange", "routing_key", "exchange_type")
_PLACES: Final = frozenset(PLACE_KEYS)
_CACHE_MAX: Final = 10_000


class Destination(Struct, frozen=True):
    """Where a message goes.

    declare: the queue that must exist before; queue_name: what the task-sent event shows.
    extra: further options the route gives, such as priority. delivery_mode: of the queue's exchange.
    """

    exchange: str
    routing_key: str
    declare: QueueSpec | None
    queue_name: str | None
    extra: Mapping[str, Any] = {}
    delivery_mode: int | None = None


class Router:
    """Answers for one app. Thread: any; answers that cannot change are kept.

    resolve: turns a dotted path in ``task_routes`` into the function or table it names.
    Raises: ConfigError for a ``task_routes`` of a form that is not understood.
    """

    def __init__(self, routes: Any, queues: Queues, resolve: Resolve) -> None:
        self.queues = queues
        self._rules = tuple(_read_rules(routes, resolve))
        self._fixed = not any(isinstance(rule, _Function) for rule in self._rules)
        self._known: dict[str, Destination] = {}

    def route(
        self, name: str, args: Any, kwargs: Mapping[str, Any], options: Mapping[str, Any], task: Any = None
    ) -> Destination:
        """Say where a call of task ``name`` goes.

        Raises: UsageError (QueueNotFound) for a queue that is unknown and may not be made up.
        """
        own_place = not _PLACES.isdisjoint(options) and any(options.get(key) is not None for key in PLACE_KEYS)
        if self._fixed and not own_place:
            found = self._known.get(name)
            if found is None:
                if len(self._known) >= _CACHE_MAX:
                    # Names come from callers: without an end, a bad caller could fill the memory.
                    self._known.clear()
                found = self._known[name] = self._place({}, self._look_up(name, args, kwargs, options, task))
            return found
        return self._place(options if own_place else {}, self._look_up(name, args, kwargs, options, task))

    def _look_up(self, name: str, args: Any, kwargs: Mapping[str, Any], options: Mapping[str, Any], task: Any) -> Route:
        for rule in self._rules:
            answer = rule(name, args, kwargs, options, task)
            if answer is not None:
                return _read_answer(answer, name)
        return {}

    def _place(self, options: Mapping[str, Any], route: Route) -> Destination:
        extra = {key: value for key, value in route.items() if key not in PLACE_KEYS}
        place = {key: options[key] for key in PLACE_KEYS if options.get(key) is not None}
        if "queue" not in place and "exchange" not in place:
            place = {**{key: route[key] for key in PLACE_KEYS if route.get(key) is not None}, **place}
        return self._expand(place, extra)

    def _expand(self, place: Mapping[str, Any], extra: Mapping[str, Any]) -> Destination:
        exchange = _name_of(place.get("exchange"))
        routing_key = place.get("routing_key")
        wanted = place.get("queue")
        if wanted is None and exchange is not None:
            kind = place.get("exchange_type") or getattr(place["exchange"], "type", None) or "direct"
            if kind != "fanout" and routing_key is None and exchange != "":
                routing_key = self.queues.default.routing_key
            return Destination(exchange, routing_key or "", None, None, extra)
        queue = self._queue(wanted)
        own = queue.exchange
        kind = place.get("exchange_type") or (own.type if own is not None else "direct")
        mode = own.delivery_mode if own is not None else None
        declare = None if _is_broadcast(queue) else queue
        if (not exchange or not routing_key) and kind == "direct":
            return Destination("", queue.name, declare, queue.name, extra, mode)
        if exchange is None:
            exchange = own.name if own is not None else ""
        return Destination(exchange, routing_key or queue.routing_key or queue.name, declare, queue.name, extra, mode)

    def _queue(self, wanted: Any) -> QueueSpec:
        if wanted is None:
            return self.queues.default
        if isinstance(wanted, str):
            return self.queues[wanted]
        try:
            return from_kombu(wanted)
        except ConfigError as error:
            raise UsageError(f"queue= is a name or a queue: {error}") from None


def _is_broadcast(queue: QueueSpec) -> bool:
    # A publisher that declared a broadcast queue would own a copy that nobody reads.
    return queue.auto_delete and queue.exchange is not None and queue.exchange.type == "fanout"


def _name_of(exchange: Any) -> str | None:
    if exchange is None or isinstance(exchange, str):
        return exchange
    name = getattr(exchange, "name", None)
    if not isinstance(name, str):
        raise UsageError(f"exchange= is a name or an exchange, got {exchange!r}")
    return name


class _Table:
    """Routes by exact name first, then by pattern in order."""

    def __init__(self, entries: Iterable[tuple[Any, Any]]) -> None:
        self._exact: dict[str, Any] = {}
        self._patterns: list[tuple[re.Pattern[str], Any]] = []
        for key, route in entries:
            if isinstance(key, re.Pattern):
                self._patterns.append((key, route))
            elif not isinstance(key, str):
                raise ConfigError(f"task_routes: expected a task name or pattern, got {key!r}")
            elif any(mark in key for mark in "*?["):
                self._patterns.append((re.compile(fnmatch.translate(key)), route))
            else:
                self._exact[key] = route

    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, task: Any) -> Any:
        if name in self._exact:
            return self._exact[name]
        return next((route for pattern, route in self._patterns if pattern.match(name)), None)


class _Function:
    """A route function of the user's."""

    def __init__(self, function: RouteFunction) -> None:
        self._function = function

    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, task: Any) -> Any:
        return self._function(name, args, kwargs, options, task=task)


def _read_rules(routes: Any, resolve: Resolve) -> list[_Table | _Function]:
    if routes is None or (isinstance(routes, (list, tuple, dict)) and not routes):
        return []
    if isinstance(routes, (list, tuple)):
        pairs = [entry for entry in routes if _is_pair(entry)]
        if pairs and len(pairs) == len(routes):
            return [_Table(pairs)]
        return [_read_rule(entry, resolve) for entry in routes]
    return [_read_rule(routes, resolve)]


def _is_pair(entry: Any) -> bool:
    return (
        isinstance(entry, (list, tuple))
        and len(entry) == 2
        and isinstance(entry[0], (str, re.Pattern))
        and isinstance(entry[1], (str, Mapping))
        and not (isinstance(entry[0], str) and isinstance(entry[1], str) and ":" in entry[1])
    )


def _read_rule(entry: Any, resolve: Resolve) -> _Table | _Function:
    if isinstance(entry, str):
        entry = resolve(entry)
    if isinstance(entry, Mapping):
        return _Table(entry.items())
    if _is_pair(entry):
        return _Table([(entry[0], entry[1])])
    if isinstance(entry, (list, tuple)) and all(_is_pair(pair) for pair in entry):
        return _Table(entry)
    if hasattr(entry, "route_for_task"):
        raise ConfigError(
            f"task_routes: {entry!r} is a router class of Celery 3; give a function (name, args, kwargs, …)"
        )
    if callable(entry):
        return _Function(entry)
    raise ConfigError(
        f"task_routes: expected a table, a list of pairs, a function or its path, got {entry!r}; "
        "for example {'mail.*': {'queue': 'mail'}}"
    )


def _read_answer(answer: Any, name: str) -> Route:
    if isinstance(answer, str):
        return {"queue": answer}
    if isinstance(answer, Mapping):
        return dict(answer)
    if isinstance(answer, QueueSpec) or hasattr(answer, "exchange"):
        return {"queue": answer}
    raise UsageError(f"the route of task {name!r} is a queue name or a table of options, got {answer!r}")
