"""``opsq why``: why a task does not run, from the history and from the workers themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec
from rich.console import Console

from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.cli.why_lost import found_elsewhere
from opsq.cli.why_text import show
from opsq.errors import ConfigError, ExitCode, OpsqError, StoreUnavailable, Unavailable
from opsq.events.cluster import Cluster
from opsq.events.diagnosis.asking import FleetAsker
from opsq.events.diagnosis.diagnose import diagnose
from opsq.events.diagnosis.explained import explained
from opsq.events.diagnosis.gather import question_of, queue_of, sight, task_case
from opsq.events.diagnosis.nodes import FINAL
from opsq.events.query import Query
from opsq.events.records import TaskDetail
from opsq.events.search import of
from opsq.events.store import MemoryStore
from opsq.events.stores import open_beside, versions
from opsq.events.views import Views
from opsq.settings import Settings

MOST_NAMED: int = 5
EXAMPLES = """\b
Examples:
  opsq why 7c0f4b52                          the beginning of an id is enough
  opsq why 7c0f4b52 -b redis://broker/0      of another broker
  opsq why 7c0f4b52 --json                   for programs, one object

\b
Exit codes:
  0   it ran, it runs, or nothing holds it
  1   it waits; the sentence says for what
  69  nothing is known of it, or broker and history are away
"""


@click.command(epilog=EXAMPLES)
@app_options
@click.argument("task_id")
@click.option("--store", "url", metavar="URL", help="The history; default is the monitor's own setting.")
@click.option("--no-ask", is_flag=True, help="Ask no worker; what events told must do.")
@json_flag
@pass_state
def why(state: CliState, task_id: str, url: str | None, no_ask: bool, as_json: bool) -> int:
    """Say why the task TASK_ID does not run: evidence, every cause that was checked, and what would help.

    Reads the history, whether or not a monitor runs, and asks the workers.
    """
    settings = state.load_settings()
    with _history(url or settings.resolved_store_url()) as (query, views), _asking(settings) as asker:
        now = time.time()
        task, elsewhere = _find(query, task_id), "the workers were not asked"
        if task is None and not no_ask:
            task, elsewhere = found_elsewhere(asker, settings, task_id)
        if task is None:
            return _nothing_known(task_id, elsewhere, as_json)
        question = question_of(query, task, queue_of(task))
        looked = asker.look_at_broker(question) if no_ask or task.item.state in FINAL else asker.look(question)
        stored, lacks = (None, ()) if task.item.state in FINAL else _stored(state, task.item.id)
        looked = msgspec.structs.replace(looked, lacks=(*looked.lacks, *lacks))
        case = task_case(sight(query, views), task, looked, now=now, lease_s=settings.lease_seconds, stored=stored)
        found = diagnose(case)
    if as_json:
        print_json(msgspec.to_builtins(explained(found)))
    else:
        show(found, Console(highlight=False, emoji=False))
    return ExitCode.FAILURE if found.waits else ExitCode.OK


@contextmanager
def _history(url: str) -> Iterator[tuple[Query, Views]]:
    """What history there is; an empty one where there is none, or where it cannot be read."""
    try:
        store = open_beside(url) if versions(url)[0] else MemoryStore()
        cluster = Cluster(store)
    except (StoreUnavailable, ConfigError) as error:
        click.echo(f"opsq: {error}", err=True)
        store = MemoryStore()
        cluster = Cluster(store)
    try:
        yield Query(store, cluster), Views(store, cluster)
    finally:
        store.close()


@contextmanager
def _asking(settings: Settings) -> Iterator[FleetAsker]:
    asker = FleetAsker(settings)
    try:
        yield asker
    finally:
        asker.close()


def _find(query: Query, id: str) -> TaskDetail | None:
    """The task of this id, or the only one whose id begins so. Raises: click.UsageError when several do."""
    exact = query.task(id)
    if exact is not None or not id.strip():
        return exact
    found = query.tasks(of(id=id), limit=MOST_NAMED + 1).items
    if len(found) > 1:
        named = "\n".join(f"  {one.id}  {one.state}  {one.type or ''}" for one in found[:MOST_NAMED])
        more = f"\n  and {'more' if len(found) > MOST_NAMED else 'no other'}" if len(found) > MOST_NAMED else ""
        raise click.UsageError(f"{id!r} begins the ids of several tasks; write more of it:\n{named}{more}")
    return query.task(found[0].id) if found else None


def _stored(state: CliState, id: str) -> tuple[str | None, tuple[str, ...]]:
    """Its state by the result store, none where there is no store; and why that could not be found out."""
    try:
        return str(state.load_app().AsyncResult(id).state), ()
    except Unavailable as error:
        return None, (f"the result store did not answer: {error}",)
    except OpsqError:  # no store, or no app that would name one
        return None, ()


def _nothing_known(id: str, elsewhere: str, as_json: bool) -> int:
    """Say so. elsewhere: what became of looking for it with workers and in queues."""
    help = (
        f"no event told of it; {elsewhere}. "
        "Is it the right broker (-b), and the whole beginning of the id? `opsq tasks` lists what is known; "
        "`opsq result` asks the result store."
    )
    if as_json:
        print_json({"task": id, "error": "no such task", "help": help})
    else:
        click.echo(f"opsq: nothing is known of a task {id!r}: {help}", err=True)
    return ExitCode.UNAVAILABLE
