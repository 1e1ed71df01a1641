"""How long a search takes over a filled history: p99 by search, counts and page together, as the page asks them."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks import site
from opsq.events import evidence as ev
from opsq.events.cluster import Cluster, Limits
from opsq.events.life import summarise
from opsq.events.query import Query
from opsq.events.records import KEY_SHIFT, time_key
from opsq.events.search import parse
from opsq.events.store import Changes, Store, TaskRow
from opsq.events.stores import open_store
from opsq.testing.postgres_server import NotInstalled, PostgresServer
from opsq.wire.event import Event

T0: Final = 1_790_000_000.0
#: Tasks arrive this far apart, so that a million of them are two days and seven hours.
APART_S: Final = 0.2
TYPES: Final = tuple(f"{area}.tasks.{what}" for area in ("img", "mail", "shop", "report") for what in (
    "resize", "send", "pay", "export", "sync", "thumb", "index", "clean", "notify", "build",
))  # fmt: skip
WORKERS: Final = tuple(f"celery@w{n}" for n in range(12))
QUEUES: Final = ("celery", "images", "mail", "slow")
WORDS: Final = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot"),
    *("golf", "hotel", "india", "juliet", "kilo", "lima"),
)
RARE: Final = "zebrafish"
BATCH: Final = 5_000
#: Name, line, and how deep: "newest" page, a page "deep" down by its cursor, or the "oldest".
SEARCHES: Final = (
    ("everything", "", "newest"),
    ("rare word", RARE, "newest"),
    ("rare and common word", f"{RARE} alpha", "newest"),
    ("common word", "alpha bravo", "newest"),
    ("negation", "state:failed -timeout -alpha", "newest"),
    ("three letters", "qxz", "newest"),
    ("three common letters", "har", "newest"),
    ("window and comparison", "since:6h runtime:>9.5s state:ok", "newest"),
    ("the manual's line", "state:FAILURE runtime:>5s name:img.* since:20h -worker:w3", "newest"),
    ("keyword argument", "kwargs:order_id=777777", "newest"),
    ("phrase", '"user 31415@example"', "newest"),
    ("either", f"({RARE} OR exception:refused) type:shop.*", "newest"),
    ("oldest page", "alpha type:mail.*", "oldest"),
    ("oldest page of all", "", "oldest"),
    ("deep page", "charlie state:ok", "deep"),
    ("nothing", "nowhere to be found", "newest"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--repeat", type=int, default=200, help="times each search is asked")
    parser.add_argument("--folder", type=Path, help="keep the filled history here and use it again")
    parser.add_argument("--fill-only", action="store_true", help="fill and index, measure nothing")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fill, wait for the index, search; return p99 in milliseconds by search and store."""
    kinds = ("sqlite", "postgresql") if options.store == "both" else (options.store,)
    found: dict[str, Any] = {"tasks": options.tasks, "p99_ms": {}, "p50_ms": {}, "totals": {}, "fill": {}}
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            store = open_store(_url(kind, folder, stack))
            stack.callback(store.close)
            found["fill"][kind] = fill(store, options.tasks)
            if not options.fill_only:
                p50, p99, totals = _searches(store, options)
                found["p50_ms"][kind], found["p99_ms"][kind], found["totals"][kind] = p50, p99, totals
    worst = [value for by_search in found["p99_ms"].values() for value in by_search.values()]
    return found | {"worst_p99_ms": max(worst, default=None)}


def _url(kind: str, folder: Path, stack: ExitStack) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder.absolute()}/history.db"
    folder.chmod(0o755)
    try:
        server = PostgresServer(folder, "shared_buffers=256MB", "max_wal_size=2GB")
    except NotInstalled as error:
        raise site.CannotMeasure(str(error)) from error
    server.start()
    stack.callback(server.stop)
    return server.url


def fill(store: Store, tasks: int) -> dict[str, Any]:
    """Write so many tasks through the store's own door and index them; a filled one is left as it is."""
    there = store.restore().cells
    if sum(there.values()) >= tasks:
        return {"cached": True}
    writing = 0.0
    for changes in batches(tasks):
        began = time.perf_counter()
        store.write(changes)
        writing += time.perf_counter() - began
    began = time.perf_counter()
    while store.index():
        pass
    return {"rows_per_s": round(tasks / writing), "index_s": round(time.perf_counter() - began, 1)}


def batches(tasks: int) -> Iterator[Changes]:
    """The filling, as the fold would hand it over."""
    rng = random.Random(5)
    for start in range(0, tasks, BATCH):
        changes = Changes()
        for n in range(start, min(start + BATCH, tasks)):
            row = row_of(n, rng)
            changes.rows[row.id] = row
            changes.cells[row.cell] = changes.cells.get(row.cell, 0) + 1
        yield changes


def row_of(n: int, rng: random.Random) -> TaskRow:
    """One task that ran, with arguments people might search for."""
    id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    at = T0 + n * APART_S
    worker = WORKERS[rng.randrange(len(WORKERS))]
    words = " ".join(rng.choices(WORDS, weights=range(len(WORDS), 0, -1), k=3))
    if n % 20_011 == 7:
        words += " " + RARE
    if n % 30_011 == 11:
        words += " aqxzb"
    told = {
        "name": TYPES[min(rng.randrange(len(TYPES)), rng.randrange(len(TYPES)))],
        "queue": QUEUES[rng.randrange(len(QUEUES))],
        "args": f"('user {rng.randrange(100_000)}@example.com', '{words}')",
        "kwargs": f"{{'order_id': {rng.randrange(1_000_000)}, 'currency': 'EUR', 'retry': False}}",
        "retries": 0,
    }
    run_s = rng.random() * 10
    failed = rng.random() < 0.03
    why = ("Timeout('db did not answer')", "ConnectionRefusedError(111)", "KeyError('alpha')")[rng.randrange(3)]
    end = {"exception": why} if failed else {"result": f"'stored {rng.randrange(10_000)} bytes'"}

    def event(kind: str, after_s: float, fields: dict[str, Any]) -> Event:
        when = at + after_s
        return Event(kind=kind, hostname=worker, pid=1, uuid=id, clock=n, timestamp=when, fields=fields)

    events = (
        event("task-received", 0.0, told),
        event("task-started", 0.1, {}),
        event("task-failed" if failed else "task-succeeded", 0.1 + run_s, {"runtime": run_s, **end}),
    )
    known = ev.fold(ev.EMPTY, events)
    summary = summarise(known)
    key = time_key(at) | (n & ((1 << KEY_SHIFT) - 1))
    return TaskRow(key, id, summary.state, summary.type, summary.queue, summary.worker, None, ev.encode(known))


def _searches(store: Store, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    query = Query(store, Cluster(store, Limits()))
    now = T0 + options.tasks * APART_S
    cursors = {"newest": None, "deep": time_key(T0 + options.tasks * APART_S / 2), "oldest": time_key(T0 + 400.0)}
    p50: dict[str, float] = {}
    p99: dict[str, float] = {}
    totals: dict[str, str] = {}
    times: dict[str, list[float]] = {name: [] for name, _, _ in SEARCHES}
    first: dict[str, float] = {}
    for turn in range(options.repeat + 1):
        for name, line, depth in SEARCHES:
            search = parse(line, now)
            began = time.perf_counter()
            page = query.tasks(search, before=cursors[depth])
            took = time.perf_counter() - began
            if turn:
                times[name].append(took)
            else:
                first[name] = round(took * 1000, 2)  # with nothing of the file in memory yet: shown apart
            looked = f", looked at {page.scanned}" + ("" if page.complete else ", stopped")
            totals[name] = f"{len(page.items)} of {'at least ' if page.at_least else ''}{page.total}{looked}"
    for name, measured in times.items():
        ordered = sorted(measured)
        p50[name] = round(ordered[len(ordered) // 2] * 1000, 2)
        p99[name] = round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 2)
    return p50, p99, {name: f"{text}; first time {first[name]} ms" for name, text in totals.items()}
