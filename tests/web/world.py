"""A night at a shop, told by events: five queues, six workers, one of them silent, one queue behind.

The events go through the real fold, store and query; only the broker is left out. Deterministic.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from opsq.clock import ManualClock
from opsq.events.cluster import Cluster
from opsq.events.decisions import DECIDED
from opsq.events.feed import Feed
from opsq.events.query import Query
from opsq.events.records import DepthSample
from opsq.events.store import MemoryStore
from opsq.events.stream import StreamStatus
from opsq.events.views import Views
from opsq.events.writer import Writer
from opsq.web.access.assemble import open_access
from opsq.web.audit import Trail
from opsq.web.deps import Deps
from opsq.web.memo import Memo
from opsq.web.mutes import Mutes
from opsq.web.view_common import Places
from opsq.web.view_shell import Place
from opsq.wire.event import Event, Malformed
from tests.web import scaling_night

NIGHT = 1_795_057_800.0
HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'`{{7*7}}</style><hx-partial hx-target="body">'
EMITTERS = {"img-1": "e1", "img-2": "e2", "mail-1": "e3", "reports-1": "e4", "reports-2": "e5"}
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/images/tasks.py", line 41, in resize
    picture = load_picture(source)
  File "/srv/shop/images/files.py", line 18, in load_picture
    return Image.open(io.BytesIO(body))
  File "/usr/lib/python3.13/site-packages/PIL/Image.py", line 3532, in open
    raise UnidentifiedImageError(msg)
PIL.UnidentifiedImageError: cannot identify image file <_io.BytesIO object at 0x7f1c2b>
"""


@dataclass(frozen=True)
class Kind:
    """One task type of the shop: where it runs, how long, how often, and what goes wrong."""

    name: str
    queue: str
    workers: tuple[str, ...]
    run_s: float
    per_s: float
    args: str
    fails: float = 0.0
    retries: float = 0.0


SHOP = (
    Kind("shop.images.resize", "images", ("img-1", "img-2"), 0.28, 1.6, "(88{n}, 'front.webp')", 0.002, 0.004),
    Kind("shop.images.optimize", "images", ("img-1", "img-2"), 0.84, 0.4, "('media/88{n}/front.webp',)", 0.001),
    Kind("shop.mail.order_confirmation", "mail", ("mail-1",), 0.15, 0.5, "('order-{n}', 'de')", 0.0, 0.002),
    Kind("shop.mail.newsletter_batch", "mail", ("mail-1",), 0.97, 0.2, "(4117, 200)", 0.002),
    Kind("shop.reports.monthly_export", "reports", ("reports-1",), 2.7, 0.08, "(47{n}, '2026-10')"),
    Kind("shop.stock.sync", "celery", ("legacy-1",), 0.81, 0.2, "('warehouse-{n}',)", 0.004),
)
POOLS = {"mail-1": ("asyncio", 10), "img-1": ("prefork", 8), "img-2": ("prefork", 8)}


@dataclass
class Source:
    """Hands a list of events to the writer."""

    events: list[Event | Malformed] = field(default_factory=list)

    def take(self, timeout_s: float, most: int = 10_000) -> list[Event | Malformed]:
        """Give everything there is."""
        taken, self.events = self.events, []
        return taken

    def take_inserted(self) -> list[Event | Malformed]:
        """Nothing arrives out of turn here."""
        return []

    def take_dropped(self) -> int:
        """Nothing is ever dropped here."""
        return 0

    def wake(self) -> None:
        """Nobody waits."""


class World:
    """The monitor of the shop, without a broker. Thread: one."""

    def __init__(self, start_at: float = NIGHT) -> None:
        self.clock = ManualClock(start_at)
        self.source = Source()
        self.store = MemoryStore()
        self.cluster = Cluster(self.store)
        self.feed = Feed()
        self.connected = True
        self.writer = Writer(self.source, self.cluster, self.store, self.feed, clock=self.clock)
        self.query = Query(
            self.store, self.cluster, feed=self.feed, stream=self.stream, writer=lambda: self.writer.status,
            clock=self.clock,
        )  # fmt: skip
        self.views = Views(self.store, self.cluster, clock=self.clock)
        self._random = random.Random(7)
        self.versions: dict[str, str] = {}
        self._seqs: dict[str, int] = {}
        self._n = 100
        self._later: list[tuple[float, int, str, str, str, dict[str, Any]]] = []

    def stream(self) -> StreamStatus:
        """How receiving goes."""
        return StreamStatus(
            connected=self.connected,
            stale_since_at=None if self.connected else self.clock.now() - 22,
            reason="" if self.connected else "connection refused",
            reconnects=0, received=0, waiting=0, overflowed=0, dropped=0,
        )  # fmt: skip

    def deps(self, prefix: str = "", broker: str = "redis://:***@broker.internal:6379/0") -> Deps:
        """What the application asks for."""
        door, gate = open_access(self.clock, prefix)
        trail = Trail(self.store, self.clock)
        return Deps(
            door=door, gate=gate, query=self.query, views=self.views, feed=self.feed,
            here=Place("production", broker, "1.4.0"), places=Places(prefix),
            allowed_hosts=frozenset({"localhost", "testserver", "127.0.0.1"}), clock=self.clock, memo=Memo(self.clock),
            trail=trail, mutes=Mutes(trail, self.clock),
        )  # fmt: skip

    def tell(self, kind: str, host: str, at: float, uuid: str | None = None, **fields: Any) -> None:
        """Queue one event as its sender would make it."""
        node = f"celery@{host}" if host == "legacy-1" else f"opsq@{host}"
        emitter = EMITTERS.get(host)
        seq = None
        if emitter is not None:
            seq = self._seqs[host] = self._seqs.get(host, 0) + 1
        self.source.events.append(
            Event(
                kind=kind,
                hostname=node,
                timestamp=at,
                pid=2114,
                clock=1,
                seq=seq,
                emitter=emitter,
                uuid=uuid,
                fields=fields,
            )
        )

    def step(self, seconds: float = 0.0) -> None:
        """Let time pass, fold what was told and announce it."""
        self.clock.advance(seconds)
        while self._later and self._later[0][0] <= self.clock.now():
            at, _, kind, host, uuid, fields = heapq.heappop(self._later)
            self.tell(kind, host, at, uuid, **fields)
        self.writer.step(0.0)
        self.writer.flush()

    def heartbeat(self, host: str, busy: int) -> None:
        """A worker says how it is."""
        pool, slots = POOLS.get(host, ("prefork", 4))
        if host == "legacy-1":
            self.tell("worker-heartbeat", host, self.clock.now(), freq=2.0, active=busy, processed=3960,
                      sw_ident="py-celery", sw_ver="5.6.2", sw_sys="Linux")  # fmt: skip
            return
        queue = {"img": "images", "mail": "mail", "rep": "reports"}[host[:3] if host[:4] != "mail" else "mail"]
        self.tell(
            "worker-heartbeat", host, self.clock.now(), freq=2.0, active=busy, busy=busy, processed=900, slots=slots,
            queues=[queue], pool=pool, cpu_share=0.12 * busy, rss_bytes=240_000_000 * (1 + busy), sw_ident="opsq",
            sw_ver="1.4.0", sw_sys="Linux", dropped=0, version=self.versions.get(host, "v411"),
        )  # fmt: skip

    def order(self, host: str, command: str, arguments: str) -> None:
        """A worker says that it carried out a remote command."""
        self.tell("worker-command", host, self.clock.now(), command=command, arguments=arguments, answer="{'ok': '…'}")

    def run(self, kind: Kind, at: float, *, slow: float = 1.0, wait_s: float = 0.02) -> str:
        """Plan the life of one task that is published at ``at``; its events come as their time does."""
        self._n += 1
        uuid = f"{self._random.getrandbits(128):032x}"
        uuid = f"{uuid[:8]}-{uuid[8:12]}-4{uuid[13:16]}-a{uuid[17:20]}-{uuid[20:]}"
        worker = self._random.choice(kind.workers)
        tries = 3 if self._random.random() < kind.fails else 2 if self._random.random() < kind.retries else 1
        fails = tries == 3
        call = {
            "name": kind.name, "args": kind.args.format(n=self._n % 1000), "kwargs": "{'sizes': [320, 640, 1280]}",
            "queue": kind.queue, "root_id": uuid,
        }  # fmt: skip
        for attempt in range(1, tries + 1):
            at = self._attempt(kind, uuid, worker, call, at, attempt, tries, fails, slow * kind.run_s, wait_s)
        return uuid

    def workflow(self, at: float, parts: int = 8) -> str:
        """Play a chord: prepare calls ``parts`` resizes, the last of which calls publish; one resize fails."""
        root = f"flow{self._n:08x}-0000-4000-a000-000000000000"
        self._n += 1

        def play(id: str, name: str, parent: str | None, begins: float, run_s: float, fails: bool = False) -> None:
            call = {"name": name, "args": "()", "kwargs": "{}", "queue": "images", "root_id": root, "parent_id": parent}
            times = {"published_at": begins, "delivered_at": begins + 0.02, "started_at": begins + 0.05}
            self._at(begins, "task-sent", "web-3", id, **call)
            self._at(begins + 0.02, "task-received", "img-1", id, **call)
            self._at(begins + 0.05, "task-started", "img-1", id, **times)
            end = begins + 0.05 + run_s
            done = {**times, "finished_at": end, "runtime": run_s, "name": name}
            if fails:
                self._at(end, "task-failed", "img-1", id, **done, exception="KeyError('sku-17')", traceback=TRACEBACK)
            else:
                self._at(end, "task-succeeded", "img-1", id, **done, result="{'files': 3}")

        play(root, "shop.catalog.rebuild", None, at, 0.4)
        for part in range(parts):
            play(f"{root[:-4]}{part + 1:04x}", "shop.images.resize", root, at + 0.4, 0.2 + 0.1 * part, fails=part == 3)
        last = f"{root[:-4]}{parts:04x}"
        play(f"{root[:-4]}f00d", "shop.catalog.publish", last, at + 0.5 + 0.1 * parts, 0.6)
        return root

    def _attempt(
        self, kind: Kind, uuid: str, worker: str, call: dict[str, Any], at: float, attempt: int, tries: int,
        fails: bool, run_s: float, wait_s: float,
    ) -> float:  # fmt: skip
        run_s *= self._random.lognormvariate(0, 0.25)
        delivered = at + wait_s * self._random.lognormvariate(0, 0.5)
        started = delivered + 0.02 * self._random.lognormvariate(0, 0.4)
        finished = started + run_s
        place = {"queue": kind.queue, "retries": attempt - 1, "attempt": attempt, "published_at": at}
        self._at(at, "task-sent", "web-3", uuid, **{**call, **place})
        self._at(delivered, "task-received", worker, uuid, **{**call, **place}, delivered_at=delivered)
        course = {
            **place,
            "delivered_at": delivered,
            "slot_at": started - 0.004,
            "started_at": started,
            "pool": "prefork",
        }
        self._at(started, "task-started", worker, uuid, **course, child_pid=2119 + int(started * 10) % 4)
        course |= {
            "finished_at": finished, "acked_at": finished + 0.009, "runtime": run_s, "cpu_s": run_s * 0.6,
            "rss_bytes": 208_000_000, "name": kind.name,
        }  # fmt: skip
        acked = finished + 0.009
        error = {
            "exception": "UnidentifiedImageError('cannot identify image file <BytesIO, 0 bytes>')",
            "traceback": TRACEBACK, "fingerprint": "f1",
        }  # fmt: skip
        if attempt < tries:
            self._at(acked, "task-retried", worker, uuid, **course, **error)
            return finished + 10 * attempt
        if fails:
            self._at(acked, "task-failed", worker, uuid, **course, **error)
        else:
            self._at(acked, "task-succeeded", worker, uuid, **course, result="{'files': 3, 'bytes': 88213}")
        return finished

    def _at(self, at: float, kind: str, host: str, uuid: str, **fields: Any) -> None:
        self._n += 1
        heapq.heappush(self._later, (at, self._n, kind, host, uuid, fields))

    def depth(self, queue: str, ready: int, oldest_s: float | None) -> None:
        """The broker says how much waits."""
        self.writer.observe_depth(DepthSample(queue, ready, self.clock.now(), 4, oldest_s, 1))


def night(minutes: int = 60) -> World:
    """Play the night up to its worst moment: reports behind, reports-2 silent for 12 s."""
    world = World()
    end = NIGHT + minutes * 60
    pick = random.Random(3)
    trouble_at = end - 960
    owed = {kind.name: pick.random() for kind in SHOP}
    scaled, scaling_dice = scaling_night.groups(), random.Random(4)
    for host in (*EMITTERS, "legacy-1"):
        world.tell("worker-online", host, NIGHT, freq=2.0)
    for now in _ticks(NIGHT, end):
        for kind in SHOP:
            owed[kind.name] += kind.per_s * (1 + 0.3 * pick.random())
            slow = 9.0 if kind.queue == "reports" and now > trouble_at else 1.0
            wait_s = (now - trouble_at) * 0.5 if slow > 1 else 0.02
            while owed[kind.name] >= 1:
                owed[kind.name] -= 1
                world.run(kind, now + pick.random(), slow=slow, wait_s=max(0.02, wait_s))
        behind = max(0, int((now - trouble_at) * 0.43))
        for host, fields in scaling_night.decisions(scaled, now, scaling_dice, behind, max(0.0, now - trouble_at)):
            world.tell(DECIDED, host, now, **fields)
        if int(now) % 10 == 0:
            _beats(world, pick, now, end)
            world.depth("reports", behind, max(0.05, (now - trouble_at) * 0.5) if behind else None)
            for queue, usual in (("images", 18), ("mail", 6), ("celery", 1)):
                ready = max(0, int(pick.gauss(usual, usual / 3)))
                world.depth(queue, ready, 0.03 * ready if ready else None)
            world.depth("imports", 0, None)
        if now == trouble_at:
            world.versions.update({"reports-1": "v412", "reports-2": "v412"})
        for before, host, command, arguments in ORDERS:
            if now == end - before:
                world.order(host, command, arguments)
        if now == end - FLOW_AT:
            world.workflow(now)
        world.step(1.0)
    return world


ORDERS = (
    (2800.0, "mail-1", "pool_shrink", "{'n': 4}"),
    (1980.0, "mail-1", "rate_limit", "{'task_name': 'shop.mail.newsletter_batch', 'rate_limit': '90/m'}"),
    (480.0, "img-1", "pool_grow", "{'n': 2}"),
    (480.0, "img-2", "pool_grow", "{'n': 2}"),
)
"""Remote commands of the night: seconds before its end, worker, command, arguments."""
FLOW_AT = 200.0
"""Seconds before the end of the night at which a workflow begins."""


def _ticks(start: float, end: float) -> Iterator[float]:
    now = start
    while now < end:
        yield now
        now += 1.0


def _beats(world: World, pick: random.Random, now: float, end: float) -> None:
    for host in (*EMITTERS, "legacy-1"):
        if host == "reports-2" and now > end - 12:
            continue
        busy = {"img-1": 5, "img-2": 6, "mail-1": 3, "reports-1": 4, "reports-2": 4}.get(host, 1)
        world.heartbeat(host, max(0, busy - pick.randint(0, 1)))
