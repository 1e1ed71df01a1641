"""How long a change in a worker takes to be seen on an open page: a real browser, and raw readers of streams beside it.

A fleet announces ``--rate`` changes a second on Redis, ``opsq monitor`` shows them, Chromium has the task list open and
notes when each change of a watched task is drawn; 99 more streams are open. First the list is narrowed to the watched
tasks (``p95_ms``), then it is the whole list, in which nearly every row changes every second (``whole_list_p95_ms``).
``server_cpu_share`` is of one processor, the monitor alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import site
from benchmarks.live_sender import WATCHED
from tests.servers import free_port, redis_server, wait_for_port
from tests.web.chromium import Chromium

PAGES: Final = ("overview", "tasks", "workers", "queues", "types", f"tasks?q=type:{WATCHED}")
WARM_S: Final = 4.0
#: What the page calls the three states of a task's life, in their order.
SEEN: Final = {"prefetched": 0, "running": 1, "ok": 2}
WATCH: Final = """
window.__seen = {};
const look = () => { const at = Date.now() / 1000;
  for (const row of document.querySelectorAll('#rows tr')) {
    const link = row.querySelector('td.what a'), state = row.querySelector('td.w-state');
    if (!link || !state) continue;
    const key = link.title.split(' ').pop() + ' ' + state.textContent.trim().split(/\\s+/)[0].toLowerCase();
    if (!(key in window.__seen)) window.__seen[key] = at; } };
new MutationObserver(look).observe(document.querySelector('#rows').parentNode, {childList: true, subtree: true,
  characterData: true, attributes: true}); look(); true
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--rate", type=float, default=200.0, help="changes a second")
    parser.add_argument("--streams", type=int, default=99, help="raw readers beside the browser")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opsq-bench-")))
        redis = stack.enter_context(redis_server(folder))
        monitor, port = stack.enter_context(_monitor(redis.url, folder))
        readers = stack.enter_context(_Readers(port, options.streams))
        browser = stack.enter_context(Chromium())
        browser.look(width=1280)
        parts = {}
        for name, query in (("", f"?q=type:{WATCHED}"), ("whole_list_", "")):
            parts[name] = _part(browser, monitor, f"http://127.0.0.1:{port}/tasks{query}", redis.url, options)
        result: dict[str, Any] = {"streams": readers.open(), "stream_mb": round(readers.received / 1e6, 1)}
        for name, figures in parts.items():
            result |= {name + key: value for key, value in figures.items()}
    return result


def _part(
    browser: Chromium, monitor: psutil.Process, url: str, redis_url: str, options: argparse.Namespace
) -> dict[str, Any]:
    words = [redis_url, str(options.rate), str(WARM_S + options.seconds)]
    sender = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live_sender", *words], stdout=subprocess.PIPE, text=True
    )
    time.sleep(WARM_S)
    browser.open(url, "document.querySelector('#rows') !== null")
    browser.value(WATCH)
    began, used = time.time(), _cpu_s(monitor)
    while sender.poll() is None:
        time.sleep(0.2)
    share = (_cpu_s(monitor) - used) / (time.time() - began)
    told = json.loads(sender.communicate()[0])
    time.sleep(1.5)
    delays = _delays(told["told"], browser.value("window.__seen"), began)
    if not delays:
        raise site.CannotMeasure(f"nothing was seen on {url}; the page said {browser.said}")
    delays.sort()
    return {
        "p50_ms": _ms(delays, 0.5), "p95_ms": _ms(delays, 0.95), "max_ms": _ms(delays, 1.0), "watched": len(delays),
        "changes_per_s": round(told["changes"] / told["seconds"], 1), "server_cpu_share": round(share, 2),
        "server_rss_mb": site.rss_mb([monitor]), "said": browser.said,
    }  # fmt: skip


def _delays(told: dict[str, list[float]], seen: dict[str, float], since: float) -> list[float]:
    """Seconds from each change to the moment when it, or what followed it, was drawn; from when the page was open."""
    found = []
    for id, times in told.items():
        drawn = {
            SEEN[key.split(" ")[1]]: at for key, at in seen.items() if key.startswith(id) and key.split(" ")[1] in SEEN
        }
        for stage, at in enumerate(times):
            later = [when for known, when in drawn.items() if known >= stage]
            if at > since + 0.5 and later:
                found.append(min(later) - at)
    return found


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _ms(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)


@contextmanager
def _monitor(url: str, folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    words = [
        "-m",
        "opsq",
        "monitor",
        "-b",
        url,
        "--data-dir",
        str(folder),
        "--set",
        f"web_port={port}",
        "-l",
        "WARNING",
    ]
    process = subprocess.Popen([sys.executable, *words], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        wait_for_port(port, process)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait(30)


class _Readers:
    """Open streams that are read and thrown away. Thread: its own loop."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._count = port, count
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: list[Any] = []
        self.received = 0

    def __enter__(self) -> _Readers:
        self._thread.start()
        for number in range(self._count):
            page = PAGES[number % len(PAGES)]
            self._tasks.append(asyncio.run_coroutine_threadsafe(self._read(page), self._loop))
        return self

    async def _read(self, page: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET /live/{page} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        while data := await reader.read(1 << 16):
            self.received += len(data)

    def open(self) -> int:
        """How many are still open."""
        return sum(not task.done() for task in self._tasks)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
