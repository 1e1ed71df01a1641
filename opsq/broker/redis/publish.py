"""Sending messages: one round trip for as many as are given, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opsq.broker.message import OutMessage
from opsq.broker.redis.envelope import pack_message
from opsq.broker.redis.faults import of_reply
from opsq.broker.redis.keys import Keys
from opsq.broker.redis.routes import Routes
from opsq.broker.redis.wire import ReplyError, Wire, pack

# A command carries this much at most, so that Redis does other things in between.
_COMMAND_BYTES = 1024 * 1024
_COMMAND_MESSAGES = 1_000
_REMEMBERED = 10_000


class Post:
    """The way out of one channel. Thread: one at a time."""

    def __init__(self, wire: Wire, keys: Keys, routes: Routes) -> None:
        self._wire = wire
        self._keys = keys
        self.routes = routes
        self._lists: dict[tuple[str, object], str] = {}
        self._heads: dict[tuple[str, str], bytes] = {}

    def send(self, messages: Sequence[OutMessage], expires: Mapping[str, int]) -> int:
        """Send; return how many reached nobody. expires: milliseconds that a queue's lists are to live."""
        commands: list[bytes] = []
        published: list[int] = []
        pushes = _Pushes(commands)
        unrouted = 0
        for message in messages:
            if message.exchange and self.routes.exchange_type(message.exchange) == "fanout":
                pushes.flush()
                published.append(len(commands))
                commands.append(self._publish(message))
                continue
            queues = self._queues(message)
            unrouted += not queues
            for queue in queues:
                pushes.add(self._list(queue, message), pack_message(message))
        pushes.flush()
        if expires:
            commands += self._expiries(messages, expires)
        replies = self._run(commands, alone=len(commands) - len(published) <= 1)
        return unrouted + sum(1 for at in published if not replies[at])

    def limit_silence(self, timeout_s: float) -> None:
        """Wait no longer for a reply from now on."""
        self._wire.limit_silence(timeout_s)

    def _publish(self, message: OutMessage) -> bytes:
        key = (message.exchange, message.routing_key)
        head = self._heads.get(key)
        if head is None:
            head = _head("PUBLISH", self._keys.channel(*key))
            if len(self._heads) < _REMEMBERED:
                self._heads[key] = head
        text = pack_message(message)
        return b"%b$%d\r\n%b\r\n" % (head, len(text), text)

    def _queues(self, message: OutMessage) -> Sequence[str]:
        if not message.exchange:
            return (message.routing_key,)
        return self.routes.queues(message.exchange, message.routing_key)

    def _list(self, queue: str, message: OutMessage) -> str:
        key = (queue, message.properties.get("priority") or 0)
        found = self._lists.get(key)
        if found is None:
            found = self._keys.queue(*key)
            if len(self._lists) < _REMEMBERED:
                self._lists[key] = found
        return found

    def _expiries(self, messages: Sequence[OutMessage], expires: Mapping[str, int]) -> list[bytes]:
        queues = {queue for message in messages for queue in self._queues(message) if queue in expires}
        return [pack("PEXPIRE", key, expires[queue]) for queue in queues for key in self._keys.lists([queue])]

    def _run(self, commands: list[bytes], *, alone: bool) -> list[Any]:
        """Send commands, as one transaction unless at most one of them stores anything (``alone``)."""
        if not commands:
            return []
        self._wire.send(b"".join(commands if alone else [pack("MULTI"), *commands, pack("EXEC")]))
        # A refused command makes EXEC fail; its own reason came before.
        replies = self._wire.replies(len(commands) if alone else len(commands) + 2)
        results = replies if alone or isinstance(replies[-1], ReplyError) else replies[-1]
        for reply in (*replies, *results) if results is not replies else replies:
            if isinstance(reply, ReplyError):
                raise of_reply(reply, self._wire.name) from reply
        return list(results)

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self._wire.close()


class _Pushes:
    """Messages for one list that follow each other become one command."""

    def __init__(self, commands: list[bytes]) -> None:
        self._commands = commands
        self._list = ""
        self._texts: list[bytes] = []
        self._bytes = 0

    def add(self, key: str, text: bytes) -> None:
        full = self._bytes > _COMMAND_BYTES or len(self._texts) >= _COMMAND_MESSAGES
        if key != self._list or full:
            self.flush()
        self._list = key
        self._texts.append(text)
        self._bytes += len(text)

    def flush(self) -> None:
        if self._texts:
            self._commands.append(_lpush(self._list, self._texts))
            self._texts = []
            self._bytes = 0


def _lpush(key: str, texts: list[bytes]) -> bytes:
    parts = [_head("LPUSH", key, len(texts))]
    for text in texts:
        parts += (b"$%d\r\n" % len(text), text, b"\r\n")
    return b"".join(parts)


def _head(command: str, key: str, values: int = 1) -> bytes:
    name = key.encode()
    return b"*%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (values + 2, len(command), command.encode(), len(name), name)
