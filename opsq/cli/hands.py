"""The monitor's hands: what its pages can do to the fleet, done through the broker.

A bare app of the monitor's own settings knows no tasks; it sends calls by name, as they were sent before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from opsq.broker.browse import Browser, browse
from opsq.broker.connection import open_connection
from opsq.broker.message import Delivery, OutMessage
from opsq.broker.topology import queue_named
from opsq.cli.put_back import put_back
from opsq.cli.timetable import Timetables
from opsq.control.commands import COMMANDS
from opsq.core.app import Opsq
from opsq.core.worker.quarantine import Evidence, evidence_in
from opsq.errors import UsageError
from opsq.settings import OPTIONS, Settings
from opsq.web.hands import Answers, CallAgain, Peeked, SetAside, Timetable

log = logging.getLogger(__name__)

ANSWER_S: Final = 2.0
_BODY_CHARS: Final = 1_024
_LOOKED_AT: Final = 1_000


class FleetHands:
    """Does things to the fleet of one broker. Thread: any; the app is made at the first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._app: Opsq | None = None
        self._timetables = Timetables(settings, lambda: self._opened().control)

    def order(self, command: str, arguments: Mapping[str, Any], nodes: Sequence[str], expected: int) -> Answers:
        """Send a remote command and collect answers by node. Raises: OpsqError."""
        control, row = self._opened().control, COMMANDS[command]
        kept = not nodes and bool(control.keep(command, arguments))
        timeout_s = max(ANSWER_S, row.timeout_s)
        answers = control.broadcast(
            command, arguments, list(nodes) or None, reply=not row.silent, timeout=timeout_s,
            limit=None if nodes else max(1, expected), kept=kept,
        )  # fmt: skip
        return Answers({node: answer for each in answers or () for node, answer in each.items()}, kept)

    def send(self, call: CallAgain) -> str:
        """Publish a call by name; returns its new id. Raises: OpsqError."""
        options: dict[str, Any] = {"queue": call.queue, "countdown": call.countdown_s}
        if call.of:
            options |= {"root_id": call.root_id or call.of, "parent_id": call.of}
        given = {key: value for key, value in options.items() if value is not None}
        return str(self._opened().send_task(call.name, call.args, call.kwargs, **given).id)

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue; how many. Raises: BrokerUnavailable."""
        return self._opened().purge_queue(queue)

    def move(self, queue: str, to: str, most: int) -> int:
        """Put up to ``most`` waiting messages on another queue, each published before it is removed: when the broker
        goes away in between, one message may be on both, and none is lost. Raises: OpsqError.
        """
        if queue == to:
            raise UsageError(f"messages of {queue} are on {to} already")
        publisher, moved = self._opened().publisher, 0
        with self._looking(queue) as browser:
            for delivery in browser or ():
                publisher.publish(_moved(delivery, to))
                assert browser is not None
                browser.remove(delivery)
                moved += 1
                if moved >= most:
                    break
        return moved

    def peek(self, queue: str, most: int) -> tuple[Peeked, ...]:
        """Look at waiting messages and put them back. Raises: BrokerUnavailable."""
        found: list[Peeked] = []
        with self._looking(queue) as browser:
            for delivery in browser or ():
                found.append(_peeked(delivery))
                if len(found) >= most:
                    break
        return tuple(found)

    def quarantined(self, most: int) -> tuple[SetAside, ...]:
        """List what was set aside, oldest first. Raises: BrokerUnavailable."""
        found: list[SetAside] = []
        with self._looking(self._settings.quarantine_queue) as browser:
            for delivery in browser or ():
                found.append(_set_aside(evidence_in(delivery), len(delivery.body)))
                if len(found) >= most:
                    break
        return tuple(found)

    def release(self, id: str) -> str:
        """Put a message that was set aside back on its queue; the queue's name. Raises: OpsqError."""
        with self._looking(self._settings.quarantine_queue) as browser:
            delivery, evidence = _find(browser, id)
            assert browser is not None
            queue, stays = put_back(self._opened(), browser, delivery, evidence)
        if stays is not None:
            log.info("a stored failure stays until the task has run again", extra={"task_id": id, "reason": stays})
        return queue

    def drop(self, id: str) -> None:
        """Delete a message that was set aside. Raises: OpsqError."""
        with self._looking(self._settings.quarantine_queue) as browser:
            delivery, _ = _find(browser, id)
            assert browser is not None
            browser.remove(delivery)

    def timetable(self) -> Timetable:
        """Tell the schedule as it was read a moment ago."""
        return self._timetables.now()

    def schedule(self, command: str, arguments: Mapping[str, Any]) -> str:
        """Have the leading beat change the schedule; its answer. Raises: OpsqError."""
        return self._timetables.change(command, arguments)

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._timetables.close()
        with self._lock:
            app, self._app = self._app, None
        if app is not None:
            app.close()

    def _opened(self) -> Opsq:
        with self._lock:
            if self._app is None:
                app = Opsq("opsq-monitor", set_as_current=False)
                app.apply_cli({name: value for name, value in self._settings if value != OPTIONS[name].default})
                self._app = app
            return self._app

    @contextmanager
    def _looking(self, queue: str) -> Iterator[Browser | None]:
        connection = open_connection(self._settings, purpose="read")
        try:
            connection.connect(self._settings.broker_connection_timeout)
            with browse(connection, queue) as browser:
                yield browser
        finally:
            connection.close()


def _moved(delivery: Delivery, to: str) -> OutMessage:
    return OutMessage(
        body=delivery.body, content_type=delivery.content_type or "", content_encoding=delivery.content_encoding or "",
        headers=dict(delivery.headers), properties=dict(delivery.properties), routing_key=to, declare=queue_named(to),
    )  # fmt: skip


def _peeked(delivery: Delivery) -> Peeked:
    headers = delivery.headers

    def text(name: str) -> str | None:
        value = headers.get(name)
        return value[:_BODY_CHARS] if isinstance(value, str) else None

    return Peeked(
        id=text("id"), task=text("task"), size_bytes=len(delivery.body), priority=delivery.priority, eta=text("eta"),
        expires=text("expires"), redelivered=delivery.redelivered, args=text("argsrepr"), kwargs=text("kwargsrepr"),
        body=bytes(delivery.body[:_BODY_CHARS]).decode("utf-8", "backslashreplace"),
    )  # fmt: skip


def _set_aside(evidence: Evidence, size_bytes: int) -> SetAside:
    return SetAside(
        id=evidence.id, kind=evidence.kind, reason=evidence.reason, at=evidence.at, size_bytes=size_bytes,
        task=evidence.task, worker=evidence.worker, queue=evidence.queue, deaths=len(evidence.deaths),
        details=tuple(msgspec.to_builtins(death) for death in evidence.deaths),
    )  # fmt: skip


def _find(browser: Browser | None, id: str) -> tuple[Delivery, Evidence]:
    for number, delivery in enumerate(browser or ()):
        evidence = evidence_in(delivery)
        if evidence.id == id:
            return delivery, evidence
        if number >= _LOOKED_AT:
            break
    raise UsageError(f"no message {id!r} is set aside; somebody may have released or dropped it")
