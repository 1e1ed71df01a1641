"""opsq against Celery, Dramatiq, taskiq, and on Redis also Huey and rq: tasks per second, and calls per second.

Each round lets everybody, in a turned order, send N no-op calls one at a time and then drain them with one worker,
each on its own; first to last execution. The same server for all. Events are on for opsq and off for the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import opsq
from benchmarks import site
from benchmarks.peers.arena import Arena, arena, run_once
from benchmarks.peers.contestants import PEERS, Contestant, chosen, contestants
from benchmarks.peers.figures import Run, ratios, row_of, table_of

BROKERS = ("redis", "amqp")
INSTALL = "scripts/install-peers"
WIDTH = 150


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="redis", choices=BROKERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=20_000, help="per run; the slow ones get a stated part of it")
    parser.add_argument("--only", default="", help="names or systems, comma-separated: opsq-threads,celery,rq")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds and return ``rows`` and ``ratios``; the table goes to stderr."""
    try:
        entered = chosen(contestants(options.broker), options.only)
    except ValueError as error:
        raise site.CannotMeasure(str(error)) from error
    _install()
    console = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH)
    with arena(options.broker) as place:
        runs, failed = _rounds(place, entered, options, console)
    rows = [row_of(_facts(who, options.broker), runs[who.name]) for who in entered if who.name in runs]
    console.print(table_of(rows))
    for name, reason in failed.items():
        console.print(f"{name} could not be measured: {reason}", style="red", markup=False)
    return {
        "broker": options.broker, "rounds": options.rounds, "tasks_per_run": options.tasks,
        "rows": rows, "ratios": ratios(rows), "failed": failed,
    }  # fmt: skip


def _rounds(
    place: Arena, entered: Sequence[Contestant], options: argparse.Namespace, console: Console
) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """Everybody once per round, the order turned by one each round; who fails is not tried again."""
    runs: dict[str, list[Run]] = {}
    failed: dict[str, str] = {}
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=options.rounds * len(entered))
        for turn in range(options.rounds):
            first = turn % len(entered)
            for who in (*entered[first:], *entered[:first]):
                progress.update(bar, description=f"round {turn + 1}: {who.name}")
                if who.name not in failed:
                    try:
                        run = run_once(place, who, who.tasks(options.broker, options.tasks))
                    except site.CannotMeasure as error:
                        failed[who.name] = str(error)
                    else:
                        runs.setdefault(who.name, []).append(run)
                progress.advance(bar)
    return runs, failed


def _facts(who: Contestant, broker: str) -> dict[str, Any]:
    return {
        "name": who.name, "system": who.system, "version": _version(who.system), "broker": broker, "pool": who.pool,
        "slots": who.slots, "settings": dict(who.settings),
    }  # fmt: skip


def _version(system: str) -> str:
    if system == "opsq":
        return opsq.__version__
    folders = [str(folder) for folder in PEERS.glob("lib/python3*/site-packages")]
    return next(each.version for each in distributions(name=system, path=folders))


def _install() -> None:
    if subprocess.run([INSTALL], cwd=Path.cwd(), stdout=subprocess.DEVNULL, check=False).returncode:
        raise site.CannotMeasure(f"{INSTALL} could not make {PEERS}")
