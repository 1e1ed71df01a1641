"""``app.control`` and ``app.control.inspect()``: Celery's methods and the shapes of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opsq.control.mailer import Call, Mailer, destination_of
from opsq.control.standing import StandingBook
from opsq.wire.control import Reply

ByNode = dict[str, Any]
Answers = list[dict[str, Any]]
OnAnswer = Callable[[dict[str, Any]], Any]


class Control:
    """Commands to workers.

    Every command takes ``destination`` (node names; everybody by default), and ``reply=True`` to
    wait ``timeout`` seconds for answers, returned as ``[{node: answer}, …]``; otherwise it returns None.
    What is ordered of everybody and is to outlive the workers (revoke, pause) is written into the broker first.
    purge: deletes all waiting messages of the app's queues. book: of the broker. Thread: any.
    Raises: BrokerUnavailable, UsageError.
    """

    def __init__(
        self, mailer: Mailer, purge: Callable[[], int] | None = None, book: StandingBook | None = None
    ) -> None:
        self._mailer = mailer
        self._purge = purge
        self._book = book

    def inspect(
        self,
        destination: Any = None,
        timeout: float = 1.0,
        callback: OnAnswer | None = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Inspect:
        """Questions to workers, each answered with ``{node: answer}``, or None when nobody answers."""
        return Inspect(self, destination, timeout, callback, limit, (pattern, matcher))

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Any = None,
        *,
        reply: bool = False,
        timeout: float = 1.0,
        limit: int | None = None,
        callback: OnAnswer | None = None,
        **options: Any,
    ) -> Answers | None:
        """Send any command. options: ``pattern`` and ``matcher``; ``kept``, when ``keep`` was called for it;
        anything else is an argument of the command.
        """
        pattern, matcher = options.pop("pattern", None), options.pop("matcher", None)
        kept: bool | None = options.pop("kept", None)
        given = {**(arguments or {}), **options}
        if kept is None:
            kept = not destination and pattern is None and self.keep(command, given)
        call = Call(
            command=command,
            arguments=given,
            kept=kept,
            destination=destination_of(destination),
            pattern=pattern if matcher or pattern is None else str(pattern),
            matcher=matcher or ("glob" if pattern is not None else None),
            timeout_s=timeout,
            limit=limit,
        )
        if not reply:
            self._mailer.tell(call)
            return None

        def heard(answer: Reply) -> None:
            if callback is not None:
                callback({answer.hostname: answer.value})

        return [{answer.hostname: answer.value} for answer in self._mailer.ask(call, heard)]

    def keep(self, command: str, arguments: Mapping[str, Any]) -> bool:
        """Have the broker keep what this command orders, for workers that start later too.

        Returns: whether it does; false for a command of the moment, and where the broker cannot.
        Raises: BrokerUnusable where no command can reach a worker at all.
        """
        self._mailer.check()
        return self._book is not None and self._book.keep(command, arguments)

    def purge(self) -> int:
        """Delete all waiting messages of the app's queues; how many."""
        return self._purge() if self._purge is not None else 0

    discard_all = purge

    def ping(self, destination: Any = None, timeout: float = 1.0, **options: Any) -> Answers:
        """Ask who is there: ``[{node: {"ok": "pong"}}, …]``."""
        return self.broadcast("ping", {}, destination, reply=True, timeout=timeout, **options) or []

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Any = None,
        terminate: bool = False,
        signal: Any = "SIGTERM",
        **options: Any,
    ) -> Answers | None:
        """Do not run these tasks; with ``terminate``, stop those that run with ``signal``."""
        ids = task_id if isinstance(task_id, str) else list(task_id)
        arguments = {"task_id": ids, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke", arguments, destination, **options)

    def revoke_by_stamped_headers(
        self, headers: Any, destination: Any = None, terminate: bool = False, signal: Any = "SIGTERM", **options: Any
    ) -> Answers | None:
        """Revoke the tasks that carry one of these stamps, ``{name: value or values}``."""
        arguments = {"headers": headers, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **options)

    def terminate(
        self, task_id: str | Iterable[str], destination: Any = None, signal: Any = "SIGTERM", **options: Any
    ) -> Answers | None:
        """Revoke these tasks and stop those that run."""
        return self.revoke(task_id, destination, True, signal, **options)

    def rate_limit(
        self, task_name: str, rate_limit: str | float, destination: Any = None, **options: Any
    ) -> Answers | None:
        """Limit how often tasks of a type start: ``10/s``, ``100/m``, ``5/h``; 0 for no limit."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **options)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Any = None,
        **options: Any,
    ) -> Answers | None:
        """Limit how long tasks of a type may run, in seconds."""
        arguments = {"task_name": task_name, "hard": hard, "soft": soft}
        return self.broadcast("time_limit", arguments, destination, **options)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Any = None,
        **more: Any,
    ) -> Answers | None:
        """Take from one more queue. options: of the queue, such as ``max_priority``."""
        arguments = {"queue": queue, "exchange": exchange, "exchange_type": exchange_type, "routing_key": routing_key}
        return self.broadcast("add_consumer", {**arguments, **(options or {})}, destination, **more)

    def cancel_consumer(self, queue: str, destination: Any = None, **options: Any) -> Answers | None:
        """Take from a queue no longer."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **options)

    def enable_events(self, destination: Any = None, **options: Any) -> Answers | None:
        """Have workers send task events."""
        return self.broadcast("enable_events", {}, destination, **options)

    def disable_events(self, destination: Any = None, **options: Any) -> Answers | None:
        """Have workers send no task events."""
        return self.broadcast("disable_events", {}, destination, **options)

    def heartbeat(self, destination: Any = None, **options: Any) -> Answers | None:
        """Have workers send a heartbeat event now."""
        return self.broadcast("heartbeat", {}, destination, **options)

    def pool_grow(self, n: int = 1, destination: Any = None, **options: Any) -> Answers | None:
        """Add slots."""
        return self.broadcast("pool_grow", {"n": n}, destination, **options)

    def pool_shrink(self, n: int = 1, destination: Any = None, **options: Any) -> Answers | None:
        """Take slots away."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **options)

    def pool_restart(
        self, modules: Any = None, reload: bool = False, reloader: Any = None, destination: Any = None, **options: Any
    ) -> Answers | None:
        """Ask for a restart of the pool, which Celery workers may do."""
        arguments = {"modules": modules, "reload": reload, "reloader": reloader}
        return self.broadcast("pool_restart", arguments, destination, **options)

    def autoscale(self, max: int, min: int, destination: Any = None, **options: Any) -> Answers | None:
        """Set the bounds of autoscaling."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **options)

    def pause(self, destination: Any = None, *, queue: Any = None, task: Any = None, **options: Any) -> Answers | None:
        """Begin no more tasks of these queues or task types; ``for_s``: for so many seconds."""
        return self.broadcast("pause", {"queue": queue, "task": task}, destination, **options)

    def resume(self, destination: Any = None, *, queue: Any = None, task: Any = None, **options: Any) -> Answers | None:
        """Undo ``pause``."""
        return self.broadcast("resume", {"queue": queue, "task": task}, destination, **options)

    def log_level(
        self, level: str, logger: str | None = None, destination: Any = None, **options: Any
    ) -> Answers | None:
        """Log more or less; ``for_s``: for so many seconds."""
        return self.broadcast("log_level", {"level": level, "logger": logger}, destination, **options)

    def shutdown(self, destination: Any = None, **options: Any) -> Answers | None:
        """Stop workers, warmly."""
        return self.broadcast("shutdown", {}, destination, **options)

    def election(self, id: str, topic: str, action: Any = None) -> None:
        """Start an election among Celery workers."""
        self.broadcast("election", {"id": id, "topic": topic, "action": action})


class Inspect:
    """Questions to workers; each answers ``{node: answer}``, or None when nobody answered.

    destination: node names; a single name, as text, gets the bare answer. choice: pattern and matcher.
    """

    def __init__(
        self,
        control: Control,
        destination: Any = None,
        timeout: float = 1.0,
        callback: OnAnswer | None = None,
        limit: int | None = None,
        choice: tuple[str | None, str | None] = (None, None),
    ) -> None:
        self._control = control
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.limit = limit
        self.pattern, self.matcher = choice

    def ask(self, command: str, **arguments: Any) -> Any:
        """Ask anything of the table of commands, or a Celery worker's own."""
        answers = self._control.broadcast(
            command,
            arguments,
            self.destination,
            reply=True,
            timeout=self.timeout,
            limit=self.limit,
            callback=self.callback,
            pattern=self.pattern,
            matcher=self.matcher,
        )
        by_node: ByNode = {node: answer for each in answers or [] for node, answer in each.items()}
        if not by_node:
            return None
        return by_node.get(self.destination) if isinstance(self.destination, str) else by_node

    def ping(self, destination: Any = None) -> Any:
        """Who is there: ``{node: {"ok": "pong"}}``."""
        if destination:
            self.destination = destination
        return self.ask("ping")

    def report(self) -> Any:
        """Versions and settings: ``{node: {"ok": text}}``."""
        return self.ask("report")

    def clock(self) -> Any:
        """Logical clocks: ``{node: {"clock": n}}``."""
        return self.ask("clock")

    def active(self, safe: bool | None = None) -> Any:
        """The tasks that run: ``{node: [request, …]}``. safe: arguments as text."""
        return self.ask("active", safe=bool(safe))

    def scheduled(self, safe: bool | None = None) -> Any:
        """The tasks that wait for their time or rate: ``{node: [{eta, priority, request}, …]}``."""
        return self.ask("scheduled")

    def reserved(self, safe: bool | None = None) -> Any:
        """The tasks that wait for a slot: ``{node: [request, …]}``."""
        return self.ask("reserved")

    def stats(self) -> Any:
        """Counts, pool, broker, resource use: ``{node: {…}}``."""
        return self.ask("stats")

    def revoked(self) -> Any:
        """Ids of revoked tasks: ``{node: [id, …]}``."""
        return self.ask("revoked")

    def registered(self, *taskinfoitems: str) -> Any:
        """Names of tasks, with these attributes: ``{node: [text, …]}``."""
        return self.ask("registered", taskinfoitems=list(taskinfoitems))

    registered_tasks = registered

    def active_queues(self) -> Any:
        """The queues taken from: ``{node: [queue, …]}``."""
        return self.ask("active_queues")

    def query_task(self, *ids: Any) -> Any:
        """Where tasks are: ``{node: {id: [state, request]}}``."""
        if len(ids) == 1 and isinstance(ids[0], (list, tuple)):
            ids = tuple(ids[0])
        return self.ask("query_task", ids=list(ids))

    def conf(self, with_defaults: bool = False) -> Any:
        """The settings, secrets masked: ``{node: {name: value}}``."""
        return self.ask("conf", with_defaults=with_defaults)

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """Exchange revoked ids: ``{node: {"revoked": [id, …], "clock": n}}``."""
        return self.ask("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        """Resident memory: ``{node: "57.1MB"}``."""
        return self.ask("memsample")

    def memdump(self, samples: int = 10) -> Any:
        """Earlier samples of memory: ``{node: text}``."""
        return self.ask("memdump", samples=samples)

    def stack(self, *task_id: str) -> Any:
        """Where running tasks are in their code: ``{node: [{id, name, pid, stack}, …]}``."""
        return self.ask("stack", task_id=list(task_id) or None)

    def overrides(self) -> Any:
        """What ends by itself, and what is paused: ``{node: [{what, now, then, until}, …]}``."""
        return self.ask("overrides")

    def replay(self, emitter: str, first: int, last: int) -> Any:
        """The events of these numbers that an emitter still keeps: ``{node: {"ok": text, "events": […], …}}``."""
        return self.ask("replay", emitter=emitter, first=first, last=last)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """A graph of objects, which Celery workers may draw."""
        return self.ask("objgraph", num=n, max_depth=max_depth, type=type)
