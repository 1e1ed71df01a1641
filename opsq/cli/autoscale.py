"""``opsq autoscale``: what a policy would do with a load, and what it would cost."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import cast

import click
import msgspec
from rich.console import Console
from rich.table import Table

from opsq.autoscale import plot, recorded, traces
from opsq.autoscale.groups import ORIGIN
from opsq.autoscale.oracle import oracle
from opsq.autoscale.presets import PRESETS, Limits, preset
from opsq.autoscale.rules import RULES, rule
from opsq.autoscale.simulator import Run, simulate
from opsq.autoscale.traces import Trace
from opsq.cli.autoscale_explain import UNITS, explain_command
from opsq.cli.output import F, json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ConfigError, ExitCode, Fault
from opsq.events.stores import open_reader
from opsq.monitor import run_monitor

REPLICA_STARTUP_S, REPLICA_TICK_S = 30.0, 5.0
SOURCE = f"A CSV of arrival_s,service_s, or {', '.join(traces.TRACES)}."
EXAMPLES = """\b
Examples:
  opsq autoscale simulate --trace burst --policy opsq --reasons
  opsq autoscale simulate --from-history 24h --policy celery --json
  opsq autoscale compare --trace step --plot step.html
  opsq autoscale compare --from-history 24h --unit 4 --startup 30 --slo 60
"""


@click.group()
def autoscale() -> None:
    """Explain decisions about slots, and try policies on a load."""


autoscale.add_command(explain_command)


@autoscale.command("run")
@app_options
@click.option("--dry", is_flag=True, help="Decide and record, change nothing.")
@pass_state
def run_command(state: CliState, dry: bool) -> int:
    """Scale the groups of `autoscale_groups` without serving a page; `opsq monitor` does both.

    Several may run: one acts, by a lease in the history they share, the others decide dry.
    """
    if dry:
        state.overrides["autoscale_mode"] = "dry"
    settings = state.load_settings()
    if not settings.autoscale_groups:
        raise ConfigError([Fault("no group is configured", ORIGIN, "see docs/autoscale.md")])
    return run_monitor(settings, web=False)


def _load_options(command: F) -> F:
    """Give a command the options that choose a load, the limits and the output."""
    options = (
        click.option("--trace", "source", metavar="FILE|NAME", help=SOURCE),
        click.option("--from-history", "window", metavar="TIME", help="What the monitor recorded, such as 24h or 30m."),
        click.option("--store", "url", metavar="URL", help="The history; default is the monitor's own setting."),
        click.option("--queue", help="Of the history, this queue only."),
        click.option("--seed", type=int, default=1, show_default=True, help="Of a named trace."),
        click.option("--min", "fewest", type=click.IntRange(0), default=1, show_default=True, help="Fewest slots."),
        click.option("--max", "most", type=click.IntRange(1), default=64, show_default=True, help="Most slots."),
        click.option("--unit", type=click.IntRange(1), default=1, show_default=True, help="Slots of a replica."),
        click.option("--startup", type=float, help="Seconds until a new slot takes work; 1, and 30 for replicas."),
        click.option("--slo", type=float, help="Seconds within which work is to start; 5, and 60 for replicas."),
        click.option("--preset", "kind", type=click.Choice(list(PRESETS)), default="balanced", show_default=True),
        click.option("--plot", "picture", type=click.Path(path_type=Path), help="Write a .html page or .svg."),
        json_flag,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@autoscale.command("simulate", epilog=EXAMPLES)
@app_options
@click.option("--policy", "name", default="opsq", show_default=True, help=f"{', '.join(RULES)}, fixed:N or oracle.")
@click.option("--reasons", is_flag=True, help="Print why the size changed, each time.")
@_load_options
@pass_state
def simulate_command(state: CliState, name: str, reasons: bool, **chosen: object) -> int:
    """Run one policy against a load."""
    return _run(state, (name,), reasons, msgspec.convert(chosen, _Chosen))


@autoscale.command("compare", epilog=EXAMPLES)
@app_options
@click.option(
    "--policy", "names", multiple=True, help="One of them; may be repeated. Default is all of them and the oracle."
)
@click.option("--reasons", is_flag=True, help="Print why the size changed, each time.")
@_load_options
@pass_state
def compare_command(state: CliState, names: tuple[str, ...], reasons: bool, **chosen: object) -> int:
    """Run several policies against the same load within the same limits."""
    return _run(state, names or (*RULES, "oracle"), reasons, msgspec.convert(chosen, _Chosen))


class _Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The options that both commands share."""

    source: str | None
    window: str | None
    url: str | None
    queue: str | None
    seed: int
    fewest: int
    most: int
    unit: int
    startup: float | None
    slo: float | None
    kind: str
    picture: Path | None
    as_json: bool

    def limits(self) -> Limits:
        """The limits that every policy obeys."""
        replicas = self.unit > 1
        if self.fewest > self.most:
            raise click.BadParameter(f"--min {self.fewest} is above --max {self.most}; swap them")
        if self.most < self.unit:
            raise click.BadParameter(f"--max {self.most} is less than one replica of {self.unit} slots")
        if (self.slo is not None and self.slo <= 0) or (self.startup is not None and self.startup < 0):
            raise click.BadParameter("--slo is above 0 and --startup not below")
        fewest = -(-self.fewest // self.unit) * self.unit
        return Limits(
            fewest=fewest, most=self.most // self.unit * self.unit, unit=self.unit,
            startup_s=self.startup if self.startup is not None else REPLICA_STARTUP_S if replicas else 1.0,
            tick_s=REPLICA_TICK_S if replicas else 1.0, slo_s=self.slo or (60.0 if replicas else 5.0),
            preset=preset(self.kind),
        )  # fmt: skip


def _run(state: CliState, names: tuple[str, ...], reasons: bool, chosen: _Chosen) -> int:
    limits, trace = chosen.limits(), _trace(state, chosen)
    started, cpu = time.perf_counter(), time.process_time()
    runs = [_one(trace, name, limits, explain=reasons or chosen.picture is not None) for name in names]
    took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    if chosen.picture is not None:
        draw = plot.svg if chosen.picture.suffix == ".svg" else plot.html
        chosen.picture.write_text(draw(trace, runs), encoding="utf-8")
    if chosen.as_json:
        found = [{**msgspec.to_builtins(run), "steps": run.steps if reasons else len(run.steps)} for run in runs]
        print_json(
            {
                "trace": trace.name,
                "seconds": trace.seconds,
                "tasks": trace.tasks,
                "took_s": round(took_s, 3),
                "cpu_s": round(cpu_s, 3),
                "runs": found,
            }
        )
        return ExitCode.OK
    _show(trace, runs, took_s, reasons=reasons)
    return ExitCode.OK


def _trace(state: CliState, chosen: _Chosen) -> Trace:
    if (chosen.source is None) == (chosen.window is None):
        raise click.UsageError("give either --trace or --from-history")
    if chosen.source is not None:
        path = Path(chosen.source)
        return recorded.from_file(path) if path.is_file() else traces.build(chosen.source, chosen.seed)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", (chosen.window or "").strip())
    if found is None:
        raise click.BadParameter(f"--from-history: expected a time such as 24h, 30m or 7d, got {chosen.window!r}")
    reader = open_reader(chosen.url or state.load_settings().resolved_store_url())
    try:
        window_s = float(found[1]) * UNITS[found[2]]
        return recorded.from_history(cast(recorded.Reader, reader), time.time(), window_s, queue=chosen.queue)
    finally:
        reader.close()


def _one(trace: Trace, name: str, limits: Limits, *, explain: bool) -> Run:
    if name == "oracle":
        return oracle(trace, limits)
    found = rule(name)
    if name == "opsq":
        found = msgspec.structs.replace(found, preset=limits.preset.name)
    return simulate(trace, found, limits, explain=explain)


def _show(trace: Trace, runs: list[Run], took_s: float, *, reasons: bool) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("POLICY", *(name.upper() for name, _ in plot.COLUMNS)):
        table.add_column(column, justify="left" if column == "POLICY" else "right")
    for run in runs:
        table.add_row(run.policy, *(show(run) for _, show in plot.COLUMNS))
    Console(markup=False, highlight=False, emoji=False).print(table)
    if reasons:
        for run in runs:
            for at, text in run.reasons:
                click.echo(f"{at:9.1f} s  {run.policy}  {text}")
    click.echo(f"{trace.tasks:,} tasks of {trace.name}, {trace.seconds / 3600:.1f} hours in {took_s:.2f} s", err=True)
