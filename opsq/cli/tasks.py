"""``opsq tasks``: search the history with the same line as the page."""

from __future__ import annotations

import time

import click
import msgspec
from rich.table import Table

from opsq.cli.output import console, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ExitCode
from opsq.events.evidence import decode
from opsq.events.records import TaskItem
from opsq.events.rows import Count, Found
from opsq.events.search import parse
from opsq.events.stores import Finder, open_reader
from opsq.events.tries import item

COLUMNS = (
    "at",
    "id",
    "state",
    "type",
    "queue",
    "worker",
    "runtime",
    "retries",
    "args",
    "kwargs",
    "result",
    "exception",
)
SHOWN = "at,state,type,worker,runtime,id"
EXAMPLES = """\b
Examples:
  opsq tasks state:failed since:2h                    failed in the last two hours
  opsq tasks 'runtime:>5s type:img.* -worker:w3'      slow ones, not on that worker
  opsq tasks timeout --json --limit 500               for programs, one object
  opsq tasks --store postgresql://db/opsq user_id=5
"""


@click.command(epilog=EXAMPLES)
@app_options
@click.argument("words", nargs=-1)
@click.option("--store", "url", metavar="URL", help="The history; default is the monitor's own setting.")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=50, help="At most so many, newest first.")
@click.option("--columns", default=SHOWN, metavar="A,B", help=f"Of {', '.join(COLUMNS)}.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing tasks as they arrive.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --follow one per task.")
@pass_state
def tasks(
    state: CliState, words: tuple[str, ...], url: str | None, limit: int, columns: str, follow: bool, as_json: bool
) -> int:
    """Search the history of tasks: WORDS are one search line, as on the page. Exit code 1 when nothing fits."""
    line = " ".join(words)
    now = time.time()
    search = parse(line, now)
    if search.faults:
        raise click.UsageError(search.faults[0].pointed(line))
    chosen = _columns(columns)
    source = open_reader(url or state.load_settings().resolved_store_url())
    try:
        found = source.find(search.root, now, limit=limit)
        items = [item(row.key, row.id, decode(row.evidence)) for row in found.rows]
        counted = Count(len(items), True) if found.older is None else source.count(search.root, now)
        _show(items, found, counted, chosen, as_json=as_json)
        if follow:
            _follow(source, line, max((one.key for one in items), default=0), chosen, as_json=as_json)
    finally:
        source.close()
    return ExitCode.OK if items else ExitCode.FAILURE


def _columns(text: str) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in chosen:
        if name not in COLUMNS:
            raise click.BadParameter(f"{name!r} is not a column; there are {', '.join(COLUMNS)}")
    return chosen


def _cell(one: TaskItem, column: str) -> str:
    if column == "at":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at))
    if column == "runtime":
        return "" if one.runtime_s is None else f"{one.runtime_s:.3f} s"
    value = getattr(one, column)
    return "" if value is None else str(value)


def _show(items: list[TaskItem], found: Found, counted: Count, columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({
            "tasks": [msgspec.to_builtins(one) for one in items], "total": counted.value,
            "total_exact": counted.exact, "complete": found.complete, "older": found.older,
        })  # fmt: skip
        return
    out = console()
    today = time.strftime("%Y-%m-%d ") if out.is_terminal else ""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.upper(), overflow="fold", no_wrap=column == "id")
    for one in items:
        table.add_row(*(_cell(one, column).removeprefix(today) for column in columns))
    out.print(table)
    least = "" if counted.exact else "≥ "
    stopped = "" if found.complete else f"; stopped after looking at {found.looked:,} tasks"
    click.echo(f"{len(items):,} of {least}{counted.value:,}{stopped}", err=True)


def _follow(source: Finder, line: str, newest: int, columns: tuple[str, ...], *, as_json: bool) -> None:
    seen: set[str] = set()
    while True:
        now = time.time()
        found = source.find(parse(line, now).root, now, limit=500)
        for row in sorted(found.rows, key=lambda row: row.key):
            if row.key > newest and row.id not in seen:
                seen.add(row.id)
                one = item(row.key, row.id, decode(row.evidence))
                text = "  ".join(_cell(one, column) for column in columns)
                print_json(msgspec.to_builtins(one)) if as_json else click.echo(text)
        time.sleep(1.0)
