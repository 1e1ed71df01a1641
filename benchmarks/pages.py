"""How long each page and API route takes over a filled history, over HTTP; Flower's list and search beside it.

Every route of the table that answers a GET, and the previews of bulk acts, in turn, so that nothing is answered from
what the page before left in memory. Exports, live streams and large graphs: to the first byte. Routes that ask a worker
take as long as it takes to answer; they are named in ``asks_the_fleet`` and left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from benchmarks import pages_flower, site
from opsq.web.pages import PAGES
from opsq.web.routes import ROUTES, RouteSpec

#: The filling of a million tasks takes some minutes the first time.
PATIENCE_S: Final = 1_800.0
_FLEET: Final = ("/look/", "/api/v1/workers/{id:path}/", "/api/v1/queues/{id:path}/messages")
#: More ways to ask for pages whose length depends on what is asked.
VARIANTS: Final = {
    "tasks": ("q=zebrafish", "q=alpha+bravo", "q=state:failed+-timeout", "q=type:img.*+state:ok+runtime:>5s",
              "q=kwargs:order_id=777777", "q=since:6h"),
    "overview": ("range=15m", "range=1h", "range=24h", "range=7d", "range=90d"),
    "types": ("range=24h", "range=90d"), "type": ("range=90d",), "queue": ("range=90d",), "worker": ("range=90d",),
    "api-tasks": ("q=zebrafish", "q=alpha&limit=500"), "api-types": ("range=90d",),
}  # fmt: skip


class Asked(NamedTuple):
    """One request. whole: the answer is read to its end, else its first byte is waited for."""

    name: str
    method: str
    path: str
    whole: bool
    body: str | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=40, help="times each route is asked")
    parser.add_argument("--folder", type=Path, help="keep the filled history here and use it again")
    parser.add_argument("--only", help="names of routes that begin so")
    parser.add_argument("--no-flower", action="store_true", help="nobody beside the monitor")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fill, ask, and return p99 in milliseconds by route."""
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opsq-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        there = stack.enter_context(_site(folder, options.tasks))
        asked = [one for one in requests(there) if one.name.startswith(options.only or "")]
        times, refused = _ask(int(there["port"]), asked, options.repeat)
    p99 = {name: _at(found, 0.99) for name, found in times.items()}
    worst = max(p99, key=lambda name: p99[name])
    result: dict[str, Any] = {
        "tasks": there["rows"], "routes": len(p99), "p99_ms": p99,
        "p50_ms": {name: _at(found, 0.5) for name, found in times.items()},
        "worst": [worst, p99[worst]], "over_100_ms": sorted(name for name, took in p99.items() if took >= 100.0),
        "refused": refused, "asks_the_fleet": sorted(route.name for route in ROUTES if asks_the_fleet(route)),
    }  # fmt: skip
    if not options.no_flower and not options.only:
        result["flower_ms"] = pages_flower.measure(min(100_000, options.tasks), options.repeat)
    return result


def asks_the_fleet(route: RouteSpec) -> bool:
    """Does the answer wait for a worker, or for messages to be taken from the broker?"""
    return route.method == "GET" and route.path.startswith(_FLEET) and route.path != "/api/v1/workers"


def requests(there: Mapping[str, Any]) -> Iterator[Asked]:
    """List what is asked: every route of the table, with something that exists in place of its parameters."""
    for route in ROUTES:
        if route.method != "GET" or asks_the_fleet(route):
            continue
        if route.path == "/live/{page}":
            yield from (_live(page.name, there) for page in PAGES)
            continue
        whole = route.kind != "live" and not route.export and route.name != "workflow"
        path = _filled(route.path, there) + _target(route, there)
        yield Asked(route.name, "GET", path, whole)
        for query in VARIANTS.get(route.name, ()):
            yield Asked(f"{route.name}?{query}", "GET", f"{path}?{query}", whole)
    for verb in ("retry", "revoke"):
        body = json.dumps({"q": "state:failed"})
        yield Asked(f"api-bulk-preview-{verb}", "POST", f"/api/v1/bulk/{verb}/preview", False, body)


def _live(page: str, there: Mapping[str, Any]) -> Asked:
    kinds = {"task": "tasks", "workflow": "workflows", "error": "errors", "worker": "workers", "queue": "queues",
             "type": "types", "why": "tasks"}  # fmt: skip
    query = f"?id={quote(str(there[kinds[page]]), safe='')}" if page in kinds else ""
    return Asked(f"live-{page}", "GET", f"/live/{page}{query}", False)


def _filled(path: str, there: Mapping[str, Any]) -> str:
    part = path.removeprefix("/api/v1").strip("/").partition("/")[0]
    id = quote(str(there.get("tasks" if part == "why" else part, "none")), safe="")
    return (
        path.replace("{id:path}", id).replace("{id}", id).replace("{verb}", "retry").replace("{file:path}", "app.css")
    )


def _target(route: RouteSpec, there: Mapping[str, Any]) -> str:
    if route.path.startswith("/act/"):
        kind = route.path.removeprefix("/act/").partition("-")[0] + "s"
        return f"?target={quote(str(there.get(kind, 'none')), safe='')}"
    return "?q=state:failed" if route.path.startswith("/bulk/") else ""


@contextmanager
def _site(folder: Path, tasks: int) -> Iterator[dict[str, Any]]:
    words = [sys.executable, "-m", "benchmarks.pages_site", str(folder.absolute()), str(tasks)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise site.CannotMeasure("the pages could not be served")
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def _ask(port: int, asked: list[Asked], repeat: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Milliseconds by name, and the status of what was not answered well. Each is asked once before it counts."""
    times: dict[str, list[float]] = {}
    refused: dict[str, int] = {}
    for turn in range(repeat + 1):
        for one in asked:
            took, status = ask(port, one)
            if status >= 400:
                refused[one.name] = status
            elif turn:
                times.setdefault(one.name, []).append(took)
    return times, refused


def ask(port: int, one: Asked) -> tuple[float, int]:
    """(milliseconds, status) of one request, as a browser sends it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Accept-Encoding": "gzip", "Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
    if one.body is not None:
        headers["Content-Type"] = "application/json"
    connection.connect()
    began = time.perf_counter()
    connection.request(one.method, one.path, one.body, headers)
    answer = connection.getresponse()
    if one.whole:
        answer.read()
    elif one.name.startswith("live-"):
        _until_data(answer)
    else:
        answer.read(1)
    took = (time.perf_counter() - began) * 1000
    connection.close()
    return took, answer.status


def _until_data(answer: Any) -> None:
    """Read a stream until its first message: what opens it costs nothing."""
    while (line := answer.readline()) and not line.startswith(b"data:"):
        pass


def _at(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
