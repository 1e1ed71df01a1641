"""Asking a fleet about one task: what no event tells. A look takes no longer than ``LOOK_S``, whoever is silent."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from msgspec import Struct, structs

from opsq.broker import standing
from opsq.broker.connection import open_connection
from opsq.broker.depth import depth
from opsq.broker.publisher import Publisher
from opsq.control.mailer import Call
from opsq.errors import OpsqError
from opsq.events.diagnosis.answers import Looked, answer_of
from opsq.events.steer import mailer_of
from opsq.settings import Settings

log = logging.getLogger(__name__)

LOOK_S: Final = 4.0
ANSWER_S: Final = 1.0
PUBLISH_S: Final = 2.0
KEEP_S: Final = 2.0
#: An older look is worth waiting for a new one.
OLD_S: Final = 10.0
_OF_ALL: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("active", {"safe": True}),
    ("registered", {"taskinfoitems": ["rate_limit"]}),
    ("stats", {}),
    ("active_queues", {}),
)
_OF_HOLDERS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (("reserved", {}), ("scheduled", {}))


class Question(Struct, frozen=True):
    """What to ask about. id: of the task, empty for a queue alone. nodes: whom, empty for everybody who is there.

    holder: the worker that has the task by its events.
    """

    id: str
    queue: str | None = None
    nodes: tuple[str, ...] = ()
    holder: str | None = None


class FleetAsker:
    """Looks at the fleet of one broker. Thread: any; every look has connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher = Publisher(partial(open_connection, settings, purpose="write"), deadline_s=PUBLISH_S)
        self._mailer = mailer_of(settings, self._publisher)

    def look(self, question: Question) -> Looked:
        """Ask broker and workers. Never raises for a broker that is away: what is lacking is in the answer."""
        seen = self.look_at_broker(question)
        lacks = list(seen.lacks)
        answers = _Round(self, question, lacks).run() if seen.driver else {}
        told = {node: answer_of(parts, question.id) for node, parts in answers.items()}
        silent = sorted(set(question.nodes) - set(told))
        if silent and not lacks:
            lacks.append(f"{', '.join(silent)} did not answer within {ANSWER_S:g} s")
        return structs.replace(seen, at=time.time(), asked=question.nodes, answers=told, lacks=tuple(lacks))

    def look_at_broker(self, question: Question) -> Looked:
        """Ask the broker alone: standing orders, depth of the queue, what kind it is."""
        connection = open_connection(self._settings, purpose="read")
        try:
            connection.connect(ANSWER_S)
            kept = standing.read(connection, time.time())
            queue = question.queue
            seen = depth(connection, [queue]).get(queue) if queue else None
            orders = None if kept is None else tuple(kept)
            return Looked(at=0.0, orders=orders, depth=seen, driver=connection.driver)
        except OpsqError as error:
            return Looked(at=0.0, lacks=(f"the broker did not answer: {error}",))
        finally:
            connection.close()

    def close(self) -> None:
        """Let go of the connection; may be called twice."""
        self._publisher.close()

    def ask(self, command: str, arguments: Mapping[str, Any], nodes: tuple[str, ...], timeout_s: float) -> Any:
        """The answers to one command by node. Raises: BrokerUnavailable."""
        call = Call(command=command, arguments=dict(arguments), destination=nodes or None, timeout_s=timeout_s)
        return {reply.hostname: reply.value for reply in self._mailer.ask(call)}


class _Round:
    """The questions of one look, bounded in all. Thread: the one that looks."""

    def __init__(self, asker: FleetAsker, question: Question, lacks: list[str]) -> None:
        self._asker = asker
        self._question = question
        self._lacks = lacks
        self._until = time.monotonic() + LOOK_S
        self._parts: dict[str, dict[str, Any]] = {}

    def run(self) -> dict[str, dict[str, Any]]:
        """What each worker answered, command by command."""
        question = self._question
        there = self._collect("ping", {}, question.nodes)
        if not there:
            return self._parts
        for command, arguments in _OF_ALL:
            self._collect(command, arguments, there)
        if question.id:
            found = self._collect("query_task", {"ids": [question.id]}, there)
            having = {node for node in found if self._parts[node]["query_task"]} | {question.holder}
            holders = tuple(node for node in there if node in having)
            for command, arguments in _OF_HOLDERS if holders else ():
                self._collect(command, arguments, holders)
            self._collect("revoked", {}, self._strangers(there))
        return self._parts

    def _strangers(self, there: Iterable[str]) -> tuple[str, ...]:
        """Those whose revocations no broker's book tells."""
        stats = ((node, self._parts[node].get("stats")) for node in there)
        return tuple(node for node, told in stats if isinstance(told, Mapping) and "opsq" not in told)

    def _collect(self, command: str, arguments: Mapping[str, Any], nodes: tuple[str, ...]) -> tuple[str, ...]:
        """Ask one thing; who answered. Nobody is asked where nobody is named, but by ``ping``."""
        left_s = min(ANSWER_S, self._until - time.monotonic())
        if left_s <= 0 or not (nodes or command == "ping"):
            return ()
        try:
            told = self._asker.ask(command, arguments, nodes, left_s)
        except OpsqError as error:
            self._lacks.append(f"{command} could not be asked: {error}")
            self._until = 0.0
            return ()
        for node, value in told.items():
            self._parts.setdefault(node, {})[command] = value
        return tuple(told)


MOST_LOOKS: Final = 8
"""Looks under way at once; a ninth viewer gets what is known."""
MOST_KEPT: Final = 200


class Looking(Protocol):
    """What looks at the fleet for pages. lease_s: how long a dead worker's deliveries stay with it."""

    lease_s: float

    def look(self, question: Question, wait_s: float) -> Looked | None:
        """What is known of the fleet, None when that is nothing yet after ``wait_s`` seconds. Thread: any."""
        ...


class Eyes:
    """Looks at the fleet for pages: a look is shared, believed for ``KEEP_S``, and nobody waits long. Thread: any."""

    def __init__(self, asker: FleetAsker, lease_s: float) -> None:
        self.lease_s = lease_s
        self._asker = asker
        self._changed = threading.Condition()
        self._looks: dict[Question, Looked] = {}
        self._looking: set[Question] = set()

    def look(self, question: Question, wait_s: float) -> Looked | None:
        """The latest look; None when there is none yet after ``wait_s`` seconds. An old one starts a new one."""
        with self._changed:
            known = self._looks.get(question)
            age_s = time.time() - known.at if known is not None else math.inf
            if age_s > KEEP_S and question not in self._looking and len(self._looking) < MOST_LOOKS:
                self._looking.add(question)
                threading.Thread(target=self._look, args=(question,), name="opsq-why", daemon=True).start()
            if age_s > OLD_S:
                self._changed.wait_for(lambda: question not in self._looking, wait_s)
            return self._looks.get(question)

    def _look(self, question: Question) -> None:
        found = None
        try:
            found = self._asker.look(question)
        except OpsqError as error:
            log.warning("workers could not be asked why a task waits", extra={"reason": str(error)})
        finally:
            with self._changed:
                if len(self._looks) >= MOST_KEPT:
                    self._looks.clear()
                if found is not None:
                    self._looks[question] = found
                self._looking.discard(question)
                self._changed.notify_all()

    def close(self) -> None:
        """Look no more; a look under way ends by itself. May be called twice."""
        self._asker.close()
