"""``opsq events``: what workers and clients announce, as it comes; or a camera that looks at intervals."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import click
import msgspec
from msgspec import Struct

from opsq import plugins
from opsq.cli.remote_call import length_of_time
from opsq.cli.state import CliState, app_options, pass_state
from opsq.cli.watching import stream_of
from opsq.core.app import Opsq
from opsq.errors import UsageError
from opsq.events.snapshot import Polaroid
from opsq.events.state import State
from opsq.events.stream import Stream
from opsq.wire.event import Event, Malformed

EXAMPLES = """\b
Examples:
  opsq events                                      everything, as it comes
  opsq events -k task-failed -k worker-* --json    one JSON object per line
  opsq events --task 'img.*' --count 100           a hundred events of these tasks
  opsq events --camera shop.cameras:Minutes -F 60  a picture of the cluster each minute
"""
SHOWN = (
    *("runtime", "result", "exception", "args", "kwargs", "queue", "active", "processed", "slots", "queues", "paused"),
)
WIDEST = 80
LOOK_S = 0.2


class Wanted(Struct, frozen=True):
    """Which events are asked for; patterns with ``*``, empty for all."""

    kinds: tuple[str, ...] = ()
    task: str | None = None
    worker: str | None = None
    uuid: str | None = None

    def covers(self, event: Event, names: dict[str, str]) -> bool:
        """Whether ``event`` is. names: of the tasks seen so far; most events bear only the id."""
        name = event.fields.get("name")
        if event.uuid and isinstance(name, str) and self.task:
            if len(names) > 100_000:
                names.clear()
            names[event.uuid] = name
        if self.kinds and not any(fnmatchcase(event.kind, kind) for kind in self.kinds):
            return False
        if self.uuid is not None and event.uuid != self.uuid:
            return False
        if self.worker is not None and not fnmatchcase(event.hostname, self.worker):
            return False
        return self.task is None or fnmatchcase(names.get(event.uuid or "", ""), self.task)


@click.command(epilog=EXAMPLES)
@app_options
@click.option("-k", "--kind", "kinds", multiple=True, metavar="KIND", help="Only these kinds; may be repeated.")
@click.option("--task", metavar="NAME", help="Only of tasks of this name, such as 'img.*'.")
@click.option("--worker", metavar="NODE", help="Only from this worker or client.")
@click.option("--uuid", metavar="ID", help="Only of this task.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many events.")
@click.option("--for", "for_s", callback=length_of_time, metavar="TIME", help="End after so long: 10s, 5m.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("-d", "--dump", is_flag=True, help="Print events; what happens anyway without a camera.")
@click.option("-c", "--camera", metavar="MODULE:CLASS", help="Have this camera look instead of printing.")
@click.option("-F", "--freq", "--frequency", type=float, default=1.0, show_default=True, help="Seconds between looks.")
@click.option("-r", "--maxrate", metavar="RATE", help="Most looks, such as 10/m.")
@click.option("-E", "--enable-events", is_flag=True, help="Have workers send task events first.")
@pass_state
def events(
    state: CliState,
    kinds: tuple[str, ...],
    task: str | None,
    worker: str | None,
    uuid: str | None,
    enable_events: bool,
    **options: Any,
) -> int:
    """Print what workers and clients announce, until Ctrl-C."""
    app = state.load_app()
    camera_class = _camera_class(options["camera"])
    wanted = Wanted(kinds, task, worker, uuid)
    try:
        with stream_of(app) as stream, contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            if enable_events:
                app.control.enable_events()
            found = _batches(stream, wanted, options["count"], options["for_s"])
            if camera_class is None:
                _print(found, options["as_json"])
            else:
                _watch(app, found, camera_class, options["freq"], options["maxrate"])
    finally:
        app.close()
        _let_go_of_a_closed_pipe()
    return 0


def _camera_class(path: str | None) -> Any:
    if path is None:
        return None
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    found = plugins.resolve(f"{module}:{name}", origin="--camera")
    if not hasattr(found, "on_shutter") and not hasattr(found, "capture"):
        raise UsageError(f"--camera {path}: expected a subclass of opsq.events.snapshot.Polaroid, got {found!r}")
    return found


def _batches(stream: Stream, wanted: Wanted, count: int | None, for_s: float | None) -> Iterator[Sequence[Any]]:
    """What is wanted of what comes, in batches, empty ones in between; ends when it was told to."""
    names: dict[str, str] = {}
    ends_at, left = None if for_s is None else time.monotonic() + for_s, count
    all_kinds = wanted == Wanted()
    while ends_at is None or time.monotonic() < ends_at:
        came = stream.take(LOOK_S)
        found = [each for each in came if (wanted.covers(each, names) if isinstance(each, Event) else all_kinds)]
        yield found if left is None else found[:left]
        if left is not None:
            left -= len(found)
            if left <= 0:
                return


def _print(batches: Iterator[Sequence[Any]], as_json: bool) -> None:
    for batch in batches:
        for each in batch:
            click.echo(as_line(each) if as_json else as_text(each))
        if batch:
            sys.stdout.flush()


def _watch(app: Opsq, batches: Iterator[Sequence[Any]], camera: Any, freq_s: float, maxrate: str | None) -> None:
    """Have a camera look at the cluster."""
    state = State()
    eye: Polaroid = camera(state, freq=freq_s, maxrate=maxrate, app=app)
    with eye:
        for batch in batches:
            for each in batch:
                if isinstance(each, Event):
                    state.event(each)
            eye.tick()
        eye.capture()


def as_line(event: Event | Malformed) -> str:
    """An event as one line of JSON, with the names it has on the wire."""
    if isinstance(event, Malformed):
        return json.dumps({"type": "malformed", "reason": event.reason, "sample": event.sample})
    said = {"type": event.kind, "uuid": event.uuid, "hostname": event.hostname, "timestamp": event.timestamp}
    more = {"pid": event.pid, "clock": event.clock, "seq": event.seq, "emitter": event.emitter}
    whole = {key: value for key, value in {**said, **more}.items() if value is not None}
    return msgspec.json.encode({**whole, **event.fields}, enc_hook=repr).decode()


def as_text(event: Event | Malformed) -> str:
    """An event for people."""
    if isinstance(event, Malformed):
        return f"malformed: {event.reason}: {event.sample!r:.200}"
    at = datetime.fromtimestamp(event.timestamp).astimezone().strftime("%H:%M:%S.%f")[:-3]
    name = event.fields.get("name") or ""
    what = f"{name}[{event.uuid}]" if event.uuid else ""
    shown = [f"{key}={_short(event.fields[key])}" for key in SHOWN if event.fields.get(key) not in (None, [], "")]
    if event.kind == "worker-command":
        shown = [f"{event.fields.get('command')} {_short(event.fields.get('arguments'))}", *shown]
    return " ".join(part for part in (at, f"{event.kind:<16}", event.hostname, what, *shown) if part)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _let_go_of_a_closed_pipe() -> None:
    """After ``| head``: otherwise Python complains at exit that it cannot write what is left."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
