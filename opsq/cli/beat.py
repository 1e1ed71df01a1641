"""``opsq beat``: send calls when they are due; ``--list``: when that will be."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import click

from opsq import logs
from opsq.cli.detach import Background, become, detach_options, in_background
from opsq.cli.output import print_json
from opsq.cli.state import CliState, app_options, pass_state, setting_flag
from opsq.core.beat.service import Beat, scheduler_class
from opsq.core.schedules.entry import Entry
from opsq.core.schedules.spec import text_of
from opsq.core.schedules.state import Line, next_ticks, read_book, ticks_of
from opsq.core.schedules.store import open_store, store_url
from opsq.core.schedules.zones import zone_name, zone_named
from opsq.core.worker.pidfile import PidFile
from opsq.errors import ExitCode, StoreUnavailable
from opsq.log_output import redirect_output
from opsq.masking import mask_url

EXAMPLES = """\b
Examples:
  opsq beat -A shop.tasks                 several may run: one leads, the others wait
  opsq beat -A shop.tasks -D --pidfile b.pid   in the background; stop it with kill -TERM
  opsq beat -A shop.tasks --list          every entry and its next ticks
  opsq beat -A shop.tasks --explain       the same, with where it is kept and who leads

How it behaves when clocks jump, after a pause and at failures: docs/schedules.md.
"""


@click.command(epilog=EXAMPLES)
@app_options
@setting_flag("beat_schedule_filename", "-s", "--schedule", metavar="FILE")
@setting_flag("beat_store_url", "--store", metavar="URL")
@setting_flag("beat_scheduler", "-S", "--scheduler", metavar="CLASS")
@setting_flag("beat_max_loop_interval", "--max-interval", metavar="SECONDS")
@setting_flag("beat_lease_seconds", "--lease", metavar="SECONDS")
@setting_flag("beat_enable_remote_control", "--enable-remote-control/--no-enable-remote-control", default=None)
@click.option("-n", "--hostname", metavar="NAME", help="Node name; %h host, %n name, %d domain.  [beat@%h]")
@setting_flag("beat_pidfile", "--pidfile", metavar="FILE")
@setting_flag("log_level", "-l", "--loglevel", metavar="LEVEL")
@setting_flag("log_format", "--log-format", type=click.Choice(["console", "json"]))
@setting_flag("beat_logfile", "-f", "--logfile", metavar="FILE")
@detach_options("beat")
@click.option("--list", "listed", is_flag=True, help="Print the entries and their next ticks, and exit.")
@click.option("--explain", is_flag=True, help="Also where the schedule is kept and who leads.")
@click.option("--count", default=3, show_default=True, type=click.IntRange(1, 1000), help="Ticks of each to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_state
@in_background("beat")
def beat(
    state: CliState,
    background: Background | None,
    hostname: str | None,
    listed: bool,
    explain: bool,
    count: int,
    as_json: bool,
) -> int:
    """Send calls when they are due."""
    app = state.load_app(needed_by="beat")
    if listed or explain:
        return _list(app, count, as_json, explain)
    settings = app.conf.load().settings
    become(settings, "beat")
    running = Beat(app, hostname=hostname)
    told = logs.config_from(settings, worker=running.hostname)
    path = logs.file_name(settings.beat_logfile, running.hostname) if settings.beat_logfile else None
    logs.setup(replace(told, path=path))
    printed = settings.worker_redirect_stdouts
    with redirect_output(settings.worker_redirect_stdouts_level) if printed else nullcontext():
        return _run(running, settings.beat_pidfile, background)


def _run(running: Beat, pidfile: str | None, background: Background | None) -> int:
    def stop(number: int, frame: FrameType | None) -> None:
        running.ask_to_stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)}
    try:
        with PidFile(pidfile, running.hostname):
            running.start()
            if background is not None:
                background.started()
            while not running.wait(0.5):
                pass
            running.stop()
            running.app.close()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if running.error is not None:
        raise running.error
    return ExitCode.OK


def _list(app: Any, count: int, as_json: bool, explain: bool) -> int:
    app.import_task_modules()
    make: Any = scheduler_class(app.settings.beat_scheduler)
    scheduler = make(app, None, app.clock, lambda kind, fields: None)  # it only says what there is, and leads nobody
    entries: dict[str, Entry] = dict(scheduler.entries())
    lines, leader, trouble = _kept(app.settings)
    now = app.clock.now()
    rows = [_row(name, entries.get(name), lines.get(name), now, count) for name in sorted({*entries, *lines})]
    if as_json:
        where = mask_url(store_url(app.settings))
        print_json({"store": where, "leader": leader, "trouble": trouble, "entries": rows})
        return ExitCode.OK
    if explain:
        click.echo(f"kept in {mask_url(store_url(app.settings))}; led by {leader or trouble or 'nobody just now'}")
    for row in rows:
        click.echo(
            f"{row['name']}: {row['task']}, {row['schedule']}" + (f" ({row['timezone']})" if row["timezone"] else "")
        )
        following = ", ".join(row["next"]) or (
            "paused" if row["paused"] else "never, or only the schedule itself knows"
        )
        click.echo(f"    next {following}")
        if explain:
            click.echo(
                f"    {row['source']}; catch up {row['catch_up']}; jitter {row['jitter']:g} s; sent {row['total']}, "
                f"missed {row['missed']}, repeated {row['repeated']}, at most {row['late_max']:.3f} s late"
            )
    if not rows:
        click.echo("the schedule is empty; see beat_schedule and app.add_periodic_task", err=True)
    return ExitCode.OK


def _kept(settings: Any) -> tuple[dict[str, Line], str | None, str | None]:
    """What the store says: entries, who leads, and what keeps it from saying so."""
    store = open_store(settings)
    try:
        book = read_book(store)
        return {line.name: line for line in book.lines}, book.leader.holder if book.leader else None, None
    except StoreUnavailable as error:
        return {}, None, str(error)
    finally:
        store.close()


def _row(name: str, entry: Entry | None, line: Line | None, now: float, count: int) -> dict[str, Any]:
    kept = line.state if line is not None else None
    added = line is not None and line.about.source == "runtime"
    about = line.about if line is not None and (added or entry is None) else None
    paused = line.paused if line is not None else bool(entry is not None and not entry.enabled)
    found = entry.schedule if entry is not None else None
    zone = zone_named(about.timezone) if about and about.timezone else getattr(found, "own_tz", None)
    ticks: list[float] = []
    if not paused and about is not None:
        ticks = next_ticks(about, max(kept.anchor if kept else now, now), count)
    elif not paused and hasattr(found, "next_after"):
        after = kept.anchor if kept is not None and kept.anchor > now - 1 else now
        ticks = ticks_of(found, after, count)
    return {
        "name": name,
        "task": about.task if about else (entry.task if entry else ""),
        "schedule": about.schedule if about else text_of(found),
        "timezone": about.timezone if about else (zone_name(zone) if zone is not None else None),
        "source": about.source if about else "code",
        "paused": paused,
        "catch_up": about.catch_up if about else (entry.catch_up if entry else "once"),
        "jitter": about.jitter_s if about else (entry.jitter_s if entry else 0.0),
        "next": [datetime.fromtimestamp(at, zone or UTC).isoformat() for at in ticks],
        "last": kept.recent[-1].sent_at if kept and kept.recent else None,
        "total": kept.total if kept else 0,
        "missed": kept.missed if kept else 0,
        "repeated": kept.repeated if kept else 0,
        "late_max": kept.late_max_s if kept else 0.0,
    }
