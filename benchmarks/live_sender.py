"""A fleet of the ``live`` benchmark: changes at a steady rate, a few of them of tasks that are watched.

``python -m benchmarks.live_sender URL CHANGES_A_SECOND SECONDS``. Sends every 50 ms, as a worker's emitter does. Prints
one JSON object when it is done: for each watched task the times (epoch seconds) at which it was sent, and how many
changes there were, and in how many seconds, once the rate was reached.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from opsq.broker.connection import BrokerConnection
from opsq.broker.message import OutMessage
from opsq.broker.publisher import Publisher

FLUSH_S: Final = 0.05
WATCHED: Final = "watched.task"
WATCHED_A_SECOND: Final = 3
#: Between two changes of a task, so that each can be seen.
STAGE_S: Final = 1.0
#: Until tasks end as fast as they begin, changes are not counted.
RAMP_S: Final = STAGE_S * 3
STAGES: Final = ("task-received", "task-started", "task-succeeded")
HOSTS: Final = 10


class Fleet:
    """Makes events. Every task has three changes, ``STAGE_S`` apart."""

    def __init__(self) -> None:
        self._number = 0
        self._due: list[tuple[float, int, str, str]] = []
        self.told: dict[str, list[float]] = {}

    def begin(self, now: float, watched: bool) -> None:
        """Plan the three changes of one task."""
        self._number += 1
        id = f"{self._number:08x}-{'aaaa' if watched else 'bbbb'}-4000-8000-{int(now * 1000) & 0xFFFFFFFFFFFF:012x}"
        name = WATCHED if watched else f"load.task_{self._number % 20}"
        self._due += [(now + stage * STAGE_S, stage, id, name) for stage in range(len(STAGES))]

    def take(self, now: float) -> Iterator[dict[str, Any]]:
        """The events that are due."""
        ready = [one for one in self._due if one[0] <= now]
        self._due = [one for one in self._due if one[0] > now]
        for _, stage, id, name in sorted(ready):
            if name == WATCHED:
                self.told.setdefault(id, []).append(now)
            end = {"runtime": STAGE_S, "result": "None"} if STAGES[stage] == "task-succeeded" else {}
            yield {
                "type": STAGES[stage], "hostname": f"opsq@w{int(id[:8], 16) % HOSTS}", "timestamp": now, "pid": 1,
                "clock": 1, "utcoffset": 0, "uuid": id, "name": name, "retries": 0, "queue": "load", **end,
            }  # fmt: skip


def beats(now: float) -> list[dict[str, Any]]:
    """Every worker lives."""
    told = {"type": "worker-heartbeat", "timestamp": now, "pid": 1, "clock": 1, "utcoffset": 0, "freq": 2.0,
            "active": 2, "processed": 1, "slots": 4, "busy": 2, "queues": ["load"]}  # fmt: skip
    return [{**told, "hostname": f"opsq@w{number}"} for number in range(HOSTS)]


def main(url: str, changes_a_second: str, seconds: str) -> None:
    """Send, then tell."""
    publisher, fleet = Publisher(lambda: BrokerConnection(url)), Fleet()
    tasks_a_second = float(changes_a_second) / len(STAGES)
    began, begun, watched, sent, beaten_at = time.time(), 0, 0, 0, 0.0
    while (now := time.time()) < began + float(seconds):
        while begun < (now - began) * tasks_a_second:
            mine = watched < (now - began) * WATCHED_A_SECOND
            watched += mine
            begun += 1
            fleet.begin(now, mine)
        events = list(fleet.take(now))
        if now > began + RAMP_S:
            sent += len(events)
        if now - beaten_at > 2.0:
            beaten_at = now
            events += beats(now)
        if events:
            _send(publisher, events)
        time.sleep(FLUSH_S)
    publisher.close()
    print(json.dumps({"told": fleet.told, "changes": sent, "seconds": time.time() - began - RAMP_S}))


def _send(publisher: Publisher, events: list[dict[str, Any]]) -> None:
    publisher.publish(
        OutMessage(
            body=json.dumps(events).encode(), content_type="application/json", content_encoding="utf-8",
            headers={"hostname": "opsq@w0"}, exchange="celeryev", routing_key="task.multi",
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
