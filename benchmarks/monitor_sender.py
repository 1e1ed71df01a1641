"""A sender of the ``monitor`` benchmark: what a Celery worker announces, at a steady rate, straight to Redis.

Three events a task (received, started, succeeded), at most 24 in a message, as Celery's prefork worker sends them.
Written from templates, so that two of them can outrun a monitor on two processors.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
import time
from collections import deque

from redis import Redis

TASKS_A_MESSAGE = 8
EVENTS_A_TASK = 3
#: Messages between being received, started and ended: what is in flight.
APART = 6
_COMMON = '{"hostname":"%s","utcoffset":0.0,"pid":%d,"clock":%d,"uuid":"%s","timestamp":%.6f,'
_RECEIVED = (
    _COMMON + '"name":"shop.tasks.%s","args":"(%d, \'EUR\')","kwargs":"{\'retry\': False}","root_id":"%s",'
    '"parent_id":null,"retries":0,"eta":null,"expires":null,"type":"task-received"}'
)
_STARTED = _COMMON + '"type":"task-started"}'
_SUCCEEDED = _COMMON + '"result":"\'charged %d\'","runtime":%.6f,"type":"task-succeeded"}'
_ENVELOPE = (
    '{"body":"%s","content-encoding":"utf-8","content-type":"application/json","headers":{"hostname":"%s"},'
    '"properties":{"delivery_mode":1,"delivery_info":{"exchange":"celeryev","routing_key":"task.multi"},'
    '"priority":0,"body_encoding":"base64","delivery_tag":"%s"}}'
)
_NAMES = ("charge", "mail", "resize", "report", "sync")


class Sender:
    """Makes messages. A task is received in one, started ``APART`` messages later, and ended after as many again."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._pid = os.getpid()
        self._clock = 0
        self._number = 0
        self._received: deque[list[tuple[str, float]]] = deque()
        self._started: deque[list[tuple[str, float]]] = deque()

    def message(self, fresh: int, now: float) -> tuple[str, int]:
        """The next message with ``fresh`` new tasks, and how many events it has."""
        texts = []
        if fresh:
            texts += self._receive(fresh, now)
        if len(self._received) > APART or not fresh:
            texts += self._start(now)
        if len(self._started) > APART or not fresh:
            texts += self._end(now)
        body = base64.b64encode(f"[{','.join(texts)}]".encode()).decode()
        return _ENVELOPE % (body, self._host, self._id()), len(texts)

    def _id(self) -> str:
        text = os.urandom(16).hex()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def _about(self, id: str, now: float) -> tuple[str, int, int, str, float]:
        self._clock += 1
        return self._host, self._pid, self._clock, id, now

    def _receive(self, fresh: int, now: float) -> list[str]:
        batch, texts = [], []
        for _ in range(fresh):
            id, n = self._id(), self._number
            self._number += 1
            texts.append(_RECEIVED % (*self._about(id, now), _NAMES[n % len(_NAMES)], n, id))
            batch.append((id, now))
        self._received.append(batch)
        return texts

    def _start(self, now: float) -> list[str]:
        batch = self._received.popleft() if self._received else []
        self._started.append([(id, now) for id, _ in batch])
        return [_STARTED % self._about(id, now) for id, _ in batch]

    def _end(self, now: float) -> list[str]:
        batch = self._started.popleft() if self._started else []
        return [_SUCCEEDED % (*self._about(id, now), len(id), now - began) for id, began in batch]


def main() -> None:
    """Send ``--events`` events in ``--seconds``, evenly; print how many and how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    redis = Redis(port=options.port)
    sender = Sender(options.host)
    tasks, sent, heard_by = options.events // EVENTS_A_TASK, 0, []
    sys.stdin.readline()  # both begin at once
    began = time.monotonic()
    wanted = tasks * EVENTS_A_TASK
    while sent < wanted:
        ahead_s = began + options.seconds * sent / wanted - time.monotonic()
        if ahead_s > 0.002:
            time.sleep(ahead_s)
        fresh = min(TASKS_A_MESSAGE, tasks)
        tasks -= fresh
        text, count = sender.message(fresh, time.time())
        if count:
            heard_by.append(redis.publish("/0.celeryev/task.multi", text))
            sent += count
    seconds = time.monotonic() - began
    print(f"{sent} {seconds:.3f} {min(heard_by)}", flush=True)


if __name__ == "__main__":
    main()
