"""A monitor over a made-up fleet, in a process of its own: ``python -m benchmarks.fleet FOLDER TYPES WORKERS``.

Says its port on the first line. Each line it is given makes the fleet do so many more rounds, one task of every type
on a changing worker a round; it answers with a line when that is counted and kept. Ends with its input.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from opsq.clock import SystemClock
from opsq.events.cluster import Cluster
from opsq.events.feed import Feed
from opsq.events.query import Query
from opsq.events.records import DepthSample
from opsq.events.sqlite import SqliteStore
from opsq.events.stream import StreamStatus
from opsq.events.views import Views
from opsq.garbage import look_rarely
from opsq.monitor import GARBAGE_AFTER
from opsq.web.access.assemble import open_access
from opsq.web.deps import Deps
from opsq.web.security import LOOPBACK_NAMES
from opsq.web.server import Address, WebServer
from opsq.web.view_shell import Place
from opsq.wire.event import Event

QUEUES: Final = 20
BATCH: Final = 10_000
HEARD: Final = StreamStatus(
    connected=True, stale_since_at=None, reason="", reconnects=0, received=0, waiting=0, overflowed=0, dropped=0
)


class Fleet:
    """Folds the events of a fleet into a monitor. Thread: one."""

    def __init__(self, folder: Path, types: int, workers: int) -> None:
        self.store = SqliteStore(folder / "history.db")
        self.cluster = Cluster(self.store)
        self.types, self.workers, self.rounds, self.tasks = types, workers, 0, 0

    def play(self, rounds: int) -> None:
        """Let each type run once a round, and every worker tell that it lives."""
        batch: list[Event] = []
        for _ in range(rounds):
            batch += self._beats()
            for type in range(self.types):
                batch += self._task(type, (type + self.rounds) % self.workers)
                if len(batch) >= BATCH:
                    self._fold(batch)
                    batch = []
            self.rounds += 1
        self._fold(batch)
        for number in range(QUEUES):
            self.cluster.observe_depth(DepthSample(f"queue-{number:02}", number * 7, time.time(), 3, 0.5 * number, 5))

    def _fold(self, batch: list[Event]) -> None:
        self.cluster.apply(batch, time.time())
        self.store.write(self.cluster.take())
        self.cluster.written()

    def settle(self) -> None:
        """Wait until the search index knows what was played: a scrape is to be timed, not a backlog of minutes."""
        while self.store.waiting_for_index() > BATCH:
            time.sleep(0.1)

    def _beats(self) -> list[Event]:
        fields = {"freq": 2.0, "active": 3, "processed": self.tasks, "slots": 4, "busy": 3, "prefetch": 8,
                  "cpu_share": 0.7, "rss_bytes": 90_000_000, "pool": "prefork", "queues": ["queue-00", "queue-01"],
                  "sw_ident": "opsq", "sw_ver": "1"}  # fmt: skip
        return [
            Event(kind="worker-heartbeat", hostname=node(number), timestamp=time.time(), pid=7, fields=dict(fields))
            for number in range(self.workers)
        ]

    def _task(self, type: int, worker: int) -> list[Event]:
        self.tasks += 1
        number, now, host = self.tasks, time.time(), node(worker)
        id = f"{number:08x}-0000-4000-8000-000000000000"
        wait_s, run_s = 0.002 * (number * 7919 % 997), 0.003 * (number * 104_729 % 1_009)
        begun = now - run_s
        call = {"name": f"area{type % 20}.tasks.work_{type:04}", "queue": f"queue-{type % QUEUES:02}", "retries": 0}
        times = {"published_at": begun - wait_s, "delivered_at": begun - wait_s / 2, "slot_at": begun - 0.001,
                 "started_at": begun}  # fmt: skip
        end = {**call, **times, "finished_at": now, "acked_at": now + 0.002, "runtime": run_s}
        failed = number % 50 == 0
        last = {**end, "exception": "ValueError('x')"} if failed else {**end, "result": "None"}
        told = (
            ("task-received", begun - wait_s / 2, {**call, "args": "()", "kwargs": "{}"}),
            ("task-started", begun, {**call, **times}),
            ("task-failed" if failed else "task-succeeded", now, last),
        )
        return [
            Event(kind=kind, hostname=host, timestamp=at, pid=7, uuid=id, fields=fields) for kind, at, fields in told
        ]


def node(number: int) -> str:
    """The name of a worker."""
    return f"opsq@worker-{number:03}"


def serve(store: SqliteStore, cluster: Cluster) -> WebServer:
    """Serve the pages of a history that is open already, on any port."""
    feed = Feed()
    door, gate = open_access(SystemClock())
    query = Query(store, cluster, feed=feed, stream=lambda: HEARD)
    deps = Deps(
        query=query, views=Views(store, cluster), feed=feed, here=Place("benchmark", "redis://broker", "0"),
        door=door, gate=gate, allowed_hosts=LOOPBACK_NAMES,
    )  # fmt: skip
    server = WebServer(deps, Address("127.0.0.1", 0))
    server.start()
    return server


def main(folder: str, types: str, workers: str) -> None:
    """Play and serve until the input ends."""
    fleet = Fleet(Path(folder), int(types), int(workers))
    server = serve(fleet.store, fleet.cluster)
    look_rarely(GARBAGE_AFTER)
    print(server.address.port, flush=True)
    for line in sys.stdin:
        fleet.play(int(line))
        fleet.settle()
        print("done", flush=True)
    server.stop(3.0)
    fleet.store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
