"""The pages over a filled history, in a process of its own: ``python -m benchmarks.pages_site FOLDER TASKS``.

Fills the history when it is not there, then says its port and what there is to look at, as one line of JSON. Time goes
on from where the history ends. Ends with its input.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks import pages_fill
from benchmarks.fleet import HEARD
from opsq.cli.hands import FleetHands
from opsq.clock import Clock
from opsq.events.cluster import Cluster
from opsq.events.feed import Feed
from opsq.events.query import Query
from opsq.events.records import DepthSample
from opsq.events.sqlite import SqliteStore
from opsq.events.views import Views
from opsq.garbage import look_rarely
from opsq.monitor import GARBAGE_AFTER
from opsq.settings import Settings
from opsq.web.access.assemble import open_access
from opsq.web.audit import Trail
from opsq.web.deps import Deps
from opsq.web.security import LOOPBACK_NAMES
from opsq.web.server import Address, WebServer
from opsq.web.view_shell import Place


class Since:
    """A clock that goes on from some moment in the past."""

    def __init__(self, at: float, faster: float = 1.0) -> None:
        self._behind_s = time.time() - at
        self._faster = faster

    def now(self) -> float:
        """Epoch seconds."""
        return time.time() - self._behind_s

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic() * self._faster


def serve(folder: Path, store: SqliteStore, clock: Clock) -> tuple[WebServer, Deps]:
    """Serve the pages of a history, with a broker that nobody else uses."""
    cluster, feed = Cluster(store), Feed()
    for name, ready in (("images", 412), ("mail", 9), ("slow", 31), ("celery", 0)):
        cluster.observe_depth(DepthSample(name, ready, clock.now() + 86_400.0, 4, 0.2 * ready, 3))
    # Time flies at the gate, which lets through ten exports a minute.
    door, gate = open_access(Since(0.0, faster=10_000.0))
    deps = Deps(
        query=Query(store, cluster, feed=feed, stream=lambda: HEARD, clock=clock),
        views=Views(store, cluster, clock=clock), feed=feed, here=Place("benchmark", "sqlite", "0"), door=door,
        gate=gate, allowed_hosts=LOOPBACK_NAMES, clock=clock, trail=Trail(store, clock),
        hands=FleetHands(Settings().replace(data_dir=str(folder / "broker"))),
    )  # fmt: skip
    server = WebServer(deps, Address("127.0.0.1", 0))
    server.start()
    return server, deps


def main(folder: str, tasks: str) -> None:
    """Fill, serve, end."""
    store = SqliteStore(Path(folder) / "history.db")
    pages_fill.fill(store, int(tasks))
    server, deps = serve(Path(folder), store, Since(pages_fill.ends_at(int(tasks))))
    look_rarely(GARBAGE_AFTER)
    newest = deps.query.tasks().items[0]
    there = {
        "port": server.address.port, "tasks": pages_fill.FAILED, "workflows": pages_fill.WORKFLOW,
        "errors": deps.views.errors()[0].fault, "workers": deps.query.workers()[0].name, "queues": "images",
        "types": newest.type, "rows": deps.query.overview().tasks_kept,
    }  # fmt: skip
    print(json.dumps(there), flush=True)
    sys.stdin.read()
    server.stop(3.0)
    assert isinstance(deps.hands, FleetHands)
    deps.hands.close()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
