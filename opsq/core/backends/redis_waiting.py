"""Waiting for results in Redis: one thread and one connection per process listen for everybody.

The thread owns the reading side and every reconnect. Waiters only add and drop channels. After a
reconnect every waiter is told that all its ids may have changed, because messages may have been lost
between the two connections.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final, Protocol

from opsq.core.backends.base import WaitScope
from opsq.errors import BackendUnavailable

logger = logging.getLogger(__name__)

READ_S: Final = 1.0
RECONNECT_S: Final = 0.2
# A pub/sub message can be lost without the connection being lost (output buffer limits): look again.
NET_S: Final = 5.0


class PubSub(Protocol):
    """What is needed of redis-py's PubSub."""

    def subscribe(self, *channels: str) -> None: ...

    def unsubscribe(self, *channels: str) -> None: ...

    def get_message(self, ignore_subscribe_messages: bool = ..., timeout: float = ...) -> dict[str, Any] | None: ...

    def close(self) -> None: ...


class Listener:
    """The listening thread of one process.

    connect: makes a PubSub that does not retry by itself. errors: what it raises when the
    connection is lost. confirm_s: longest wait for a subscription to be in force.
    """

    def __init__(
        self, connect: Callable[[], PubSub], errors: tuple[type[Exception], ...], confirm_s: float = 5.0
    ) -> None:
        self.reconnects = 0
        self.confirm_s = confirm_s
        self._connect = connect
        self._errors = errors
        self._state = threading.Condition()
        self._sending = threading.Lock()
        self._waiters: dict[str, set[RedisSubscription]] = {}
        self._confirmed: set[str] = set()
        self._pubsub: PubSub | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        # Never unsubscribed while open: redis-py treats a PubSub without channels as not connected.
        self._own_channel = f"opsq-results-listener-{uuid.uuid4().hex}"

    def add(self, waiter: RedisSubscription) -> None:
        """Listen for a waiter's channels; returns when the server confirmed them. Raises: BackendUnavailable."""
        # The lock spans both the note and the command: a subscribe overtaken by another waiter's
        # unsubscribe for the same channel would leave this one deaf.
        with self._sending:
            with self._state:
                fresh = [channel for channel in waiter.channels if channel not in self._waiters]
                for channel in waiter.channels:
                    self._waiters.setdefault(channel, set()).add(waiter)
                self._start()
            self._send("subscribe", fresh)
        with self._state:
            wanted = waiter.channels.keys()
            if self._state.wait_for(lambda: self._confirmed >= wanted or self._closing, self.confirm_s):
                return
        self.drop(waiter)
        raise BackendUnavailable(f"Redis did not confirm a subscription within {self.confirm_s:g} s")

    def drop(self, waiter: RedisSubscription) -> None:
        """Stop listening for a waiter's channels, unless others wait for them too."""
        with self._sending:
            idle = []
            with self._state:
                for channel in waiter.channels:
                    waiting = self._waiters.get(channel, set())
                    waiting.discard(waiter)
                    if not waiting and self._waiters.pop(channel, None) is not None:
                        self._confirmed.discard(channel)
                        idle.append(channel)
            self._send("unsubscribe", idle)

    def wait(self, waiter: RedisSubscription, timeout_s: float) -> set[str] | None:
        """Block until something for ``waiter`` arrived."""
        with self._state:
            if not self._state.wait_for(lambda: waiter.news or self._closing, min(timeout_s, NET_S)):
                # Not known to have changed, but worth a look once in a while.
                return set(waiter.channels.values()) if timeout_s > NET_S else None
            news, waiter.news = waiter.news, set()
            return news or None

    def close(self) -> None:
        """End the thread and its connection. Twice does no harm."""
        with self._state:
            self._closing = True
            self._state.notify_all()
            thread = self._thread
        with self._sending:
            # The answer to this wakes the thread out of its read.
            self._send("unsubscribe", [self._own_channel])
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=READ_S + 1.0)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="opsq-redis-results", daemon=True)
            self._thread.start()

    def _send(self, command: str, channels: list[str]) -> None:
        """Change the subscription; the caller holds ``_sending``.

        Not sent while there is no connection, nor when it fails: the thread subscribes to everything
        that is waited for whenever it connects.
        """
        if self._pubsub is None or not channels:
            return
        try:
            getattr(self._pubsub, command)(*channels)
        except self._errors as error:
            logger.debug("Redis subscription changed on a lost connection", extra={"error": str(error)})

    def _run(self) -> None:
        while not self._closing:
            try:
                self._listen()
            except self._errors as error:
                self.reconnects += 1
                logger.warning("Connection to the result store lost, connecting again", extra={"error": str(error)})
                with self._state:
                    self._state.wait_for(lambda: self._closing, RECONNECT_S)

    def _listen(self) -> None:
        pubsub = self._connect()
        try:
            with self._sending:
                with self._state:
                    self._confirmed.clear()
                    channels = [self._own_channel, *self._waiters]
                pubsub.subscribe(*channels)
                self._pubsub = pubsub
            if self.reconnects:
                self._look_again()
            while not self._closing:
                message = pubsub.get_message(timeout=READ_S)
                if message is not None:
                    channel = message["channel"]
                    self._take(channel.decode() if isinstance(channel, bytes) else channel, str(message["type"]))
        finally:
            with self._sending:
                self._pubsub = None
            pubsub.close()

    def _look_again(self) -> None:
        """Tell every waiter that all its ids may have changed: messages may have been missed."""
        with self._state:
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.news.update(waiter.channels.values())
            self._state.notify_all()

    def _take(self, channel: str, kind: str) -> None:
        with self._state:
            waiters = self._waiters.get(channel)
            if kind == "subscribe" and waiters:
                self._confirmed.add(channel)
            elif kind == "message" and waiters:
                for waiter in waiters:
                    waiter.news.add(waiter.channels[channel])
            else:
                return
            self._state.notify_all()


class RedisSubscription(WaitScope):
    """One waiter. channels: channel name (the key) to task id."""

    def __init__(self, listener: Listener, channels: dict[str, str]) -> None:
        self.channels = channels
        self.news: set[str] = set()
        self._listener = listener
        self._open = True
        if channels:
            listener.add(self)

    def wait(self, timeout_s: float) -> set[str] | None:
        """Block until one of the ids was stored."""
        return self._listener.wait(self, timeout_s)

    def close(self) -> None:
        """Stop being told."""
        if self._open:
            self._open = False
            self._listener.drop(self)
