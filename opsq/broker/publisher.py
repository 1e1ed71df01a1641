"""Publishing from any thread and any process, with retries and a deadline."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from opsq.broker.connection import BrokerConnection
from opsq.broker.faults import BrokerUnusable
from opsq.broker.message import OutMessage
from opsq.broker.outlet import Outlet, open_outlet
from opsq.broker.retry import RetryPolicy
from opsq.errors import BrokerUnavailable, UsageError

log = logging.getLogger(__name__)

DEFAULT_DEADLINE_S = 30.0
CLOSE_S = 2.0


class PublisherStats(Struct):
    """Counts since the publisher was made. unrouted: reached no queue, where the broker tells."""

    published: int = 0
    unrouted: int = 0
    retries: int = 0
    failed: int = 0
    connects: int = 0


class Publisher:
    """Sends messages over one connection, made on first use and again after a loss or a fork.

    connect: returns a new, not yet connected connection. retry: when a connection error is tried
    again. deadline_s: seconds one call may take, all retries included; ``None`` for no end.
    confirm: ``sync`` waits for the broker's word on AMQP, ``async`` does not (see ``flush``).
    buffer: most unconfirmed messages with ``async``. max_bytes: biggest body.
    Thread: any. Every transport of opsq's own returns from ``publish`` when the message is stored.
    """

    def __init__(
        self,
        connect: Callable[[], BrokerConnection],
        retry: RetryPolicy | None = None,
        *,
        deadline_s: float | None = DEFAULT_DEADLINE_S,
        confirm: str = "sync",
        buffer: int = 10_000,
        max_bytes: int | None = None,
    ) -> None:
        self._connect = connect
        self._retry = retry or RetryPolicy()
        self._deadline_s = deadline_s
        self._confirm = confirm
        self._buffer = buffer
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._pid = os.getpid()
        self._connection: BrokerConnection | None = None
        self._outlet: Outlet | None = None
        self._left_over: list[OutMessage] = []
        self._parents: list[object] = []
        self.stats = PublisherStats()

    def publish(
        self, message: OutMessage, *, deadline_s: float | None = None, retry: RetryPolicy | None = None
    ) -> None:
        """Send one message; returns when the broker has it (see ``confirm``).

        deadline_s, retry: instead of the publisher's own.
        Raises: BrokerUnavailable when it could not be sent in time, UsageError when it never can be.
        """
        self.publish_many((message,), deadline_s=deadline_s, retry=retry)

    def publish_many(
        self, messages: Sequence[OutMessage], *, deadline_s: float | None = None, retry: RetryPolicy | None = None
    ) -> None:
        """Send messages in order, in one go where the broker can; otherwise as ``publish``.

        After an error some may have been sent, except on SQLite: there it is all or none.
        """
        if not messages:
            return
        if self._max_bytes is not None:
            self._check_sizes(messages)
        if self._pid != os.getpid():
            self._start_anew_in_child()
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        give_up_at = None if deadline_s is None else time.monotonic() + deadline_s
        self._acquire(deadline_s)
        try:
            failed: BrokerUnavailable | None = None
            if self._outlet is not None:
                try:
                    self._send(self._outlet, messages, _left_s(give_up_at))
                    return
                except BrokerUnavailable as exc:
                    failed = exc
            self._send_or_retry(messages, give_up_at, retry, failed)
        finally:
            self._lock.release()

    def _acquire(self, deadline_s: float | None) -> None:
        # Another thread may be waiting for a broker that is away; its patience is not ours.
        if not self._lock.acquire(timeout=-1 if deadline_s is None else deadline_s):
            self.stats.failed += 1
            raise BrokerUnavailable(
                f"{self._place()}: another thread was still publishing to it after {deadline_s:g} s; it may be away"
            )

    def _place(self) -> str:
        """Name the broker, without its password."""
        connection = self._connection
        return "the broker" if connection is None else f"broker {connection.sanitised_url}"

    def _send(self, outlet: Outlet, messages: Sequence[OutMessage], timeout_s: float | None) -> None:
        self.stats.unrouted += outlet.send(messages, timeout_s)
        self.stats.published += len(messages)

    def _send_or_retry(
        self,
        messages: Sequence[OutMessage],
        give_up_at: float | None,
        retry: RetryPolicy | None,
        failed: BrokerUnavailable | None,
    ) -> None:
        """Try until it is sent, the policy or the deadline ends; ``failed``: what the first try raised."""
        pauses = (retry or self._retry).intervals()
        while True:
            if failed is not None:
                self._wait(failed, messages, pauses, give_up_at)
            try:
                self._send(self._reconnected(give_up_at), messages, _left_s(give_up_at))
                return
            except BrokerUnavailable as exc:
                failed = exc

    def _wait(
        self,
        failed: BrokerUnavailable,
        messages: Sequence[OutMessage],
        pauses: Iterator[float],
        give_up_at: float | None,
    ) -> None:
        """Drop the connection and pause before the next try. Raises: ``failed`` when there is none."""
        self._drop(messages)
        pause_s = next(pauses, None)
        out_of_time = pause_s is not None and give_up_at is not None and time.monotonic() + pause_s >= give_up_at
        hopeless = isinstance(failed, BrokerUnusable) or self._closed.is_set()
        if pause_s is None or out_of_time or hopeless:
            self.stats.failed += 1
            raise failed
        self.stats.retries += 1
        log.warning("publishing failed, trying again", extra={"error": str(failed), "pause_s": round(pause_s, 3)})
        self._closed.wait(pause_s)

    def _reconnected(self, give_up_at: float | None) -> Outlet:
        if self._outlet is not None:
            return self._outlet
        if self._connection is None:
            self._connection = self._connect()
        self._connection.connect(within_s=_left_s(give_up_at))
        self.stats.connects += 1
        outlet = open_outlet(self._connection, confirm=self._confirm, buffer=self._buffer)
        if self._left_over:
            outlet.send(self._left_over, _left_s(give_up_at))
            self._left_over = []
        self._outlet = outlet
        return outlet

    def _drop(self, in_hand: Sequence[OutMessage]) -> None:
        """Forget the connection; what it left unconfirmed, but for those ``in_hand``, is sent on the next one."""
        outlet, self._outlet = self._outlet, None
        if outlet is not None and self._confirm == "async":
            held = {id(message) for message in in_hand}
            lost = [message for message in outlet.unconfirmed() if id(message) not in held]
            self._left_over = [*self._left_over, *lost][-self._buffer :]
        if self._connection is not None:
            self._connection.drop()

    def _check_sizes(self, messages: Sequence[OutMessage]) -> None:
        for message in messages:
            if self._max_bytes is not None and len(message.body) > self._max_bytes:
                raise UsageError(
                    f"message for {message.routing_key!r}: its body has {len(message.body):,} bytes, more than "
                    f"message_max_bytes = {self._max_bytes:,}; store the data elsewhere and send a reference"
                )

    def _start_anew_in_child(self) -> None:
        """After a fork: leave the parent's connection alone, its lock may be held by a thread that is not here."""
        self._parents += [self._connection, self._outlet, self._lock]
        self._lock = threading.Lock()
        self._connection = None
        self._outlet = None
        self._left_over = []
        self.stats = PublisherStats()
        self._pid = os.getpid()

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the broker confirmed everything that was published with ``confirm="async"``.

        What a lost connection left unconfirmed is published again on the next.
        Raises: BrokerUnavailable when it did not in ``timeout_s`` seconds.
        """
        if self._pid != os.getpid():
            return
        timeout_s = self._deadline_s if timeout_s is None else timeout_s
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        self._acquire(timeout_s)
        try:
            pauses = self._retry.intervals()
            while (failed := self._try_flush(give_up_at)) is not None:
                if give_up_at is not None and time.monotonic() >= give_up_at:
                    raise failed  # the connection may be sound, only slow: it is kept
                self._wait(failed, (), pauses, give_up_at)
        finally:
            self._lock.release()

    def _try_flush(self, give_up_at: float | None) -> BrokerUnavailable | None:
        """Publish again what was left over and wait for every confirm; what failed, None when nothing did."""
        try:
            if self._left_over:
                self._reconnected(give_up_at)
            if self._outlet is not None:
                self._outlet.flush(_left_s(give_up_at))
        except BrokerUnavailable as exc:
            return exc
        return None

    def close(self) -> None:
        """Give the connection back; a later ``publish`` opens a new one. Safe to call twice.

        Messages not confirmed yet are waited for first, for a moment; those that a lost connection left are
        sent once more. What then is left is given up, and said.
        """
        if self._pid != os.getpid():
            self._start_anew_in_child()
            return
        with self._lock:
            failed = self._try_flush(time.monotonic() + CLOSE_S)
            outlet, self._outlet = self._outlet, None
            connection, self._connection = self._connection, None
            left_over, self._left_over = self._left_over, []
            if failed is not None:
                count = len(left_over) + (len(outlet.unconfirmed()) if outlet is not None else 0)
                log.warning(
                    "unconfirmed messages were given up at close", extra={"messages": count, "error": str(failed)}
                )
            if connection is not None:
                connection.close()


def _left_s(give_up_at: float | None) -> float | None:
    """Return the seconds until then, never none at all; ``None`` for no end."""
    return None if give_up_at is None else max(give_up_at - time.monotonic(), 0.01)
