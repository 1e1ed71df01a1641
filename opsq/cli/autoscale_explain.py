"""``opsq autoscale explain``: the decision in force at a moment, why, and what following decisions costs or saves."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import click
import msgspec

from opsq.autoscale.account import Account, account
from opsq.autoscale.explain import INPUTS, MODES, NAMES, OF_ENTRIES, decided_by, finding, input_text, reason
from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ExitCode
from opsq.events.decisions import DecidedSignal, DecisionItem, DecisionRow, item_of
from opsq.events.stores import open_reader

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
DAY_S = 86_400.0
MOST = 20_000
KINDS = (("need", "asks"), ("cap", "allows"), ("floor", "holds"))
EXAMPLES = """\b
Examples:
  opsq autoscale explain                       every group, now
  opsq autoscale explain w1@host --last 10     one, with its last ten changes
  opsq autoscale explain --at 02:58
  opsq autoscale explain --at 2026-11-19T02:58:40Z --json
"""


class Reader(Protocol):
    """The part of a history's reader that is needed here."""

    def decisions(
        self, since: float, until: float, *, group: str | None = None, changed: bool = False, limit: int = 1_000
    ) -> list[DecisionRow]:
        """The newest decisions of a time range, newest first."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


@click.command("explain", epilog=EXAMPLES)
@app_options
@click.argument("group", required=False)
@click.option("--at", "moment", metavar="TIME", help="As 02:58 (of the last day), ISO 8601, or ago: 30m, 2h.")
@click.option("--last", type=click.IntRange(0, 1_000), default=3, show_default=True, help="Changes before it, to list.")
@click.option("--store", "url", metavar="URL", help="The history; default is the monitor's own setting.")
@json_flag
@pass_state
def explain_command(
    state: CliState, group: str | None, moment: str | None, last: int, url: str | None, as_json: bool
) -> int:
    """Say how many slots were decided, when, and why; exit code 1 when nothing was decided in the day before."""
    now = time.time()
    at = now if moment is None else moment_of(moment, now)
    reader = cast(Reader, open_reader(url or state.load_settings().resolved_store_url()))
    try:
        rows = reader.decisions(at - DAY_S, at + 1e-6, group=group, limit=MOST)
    finally:
        reader.close()
    by_group: dict[str, list[DecisionItem]] = {}
    for row in rows:
        by_group.setdefault(row.group, []).append(item_of(row))
    if as_json:
        print_json({"at": at, "groups": [_plain(name, found, last, at) for name, found in sorted(by_group.items())]})
    else:
        for name, found in sorted(by_group.items()):
            _say(name, found, last, at)
        if not by_group:
            whose = f" of {group}" if group else ""
            click.echo(f"no decision{whose} is known of the day before {_clock(at)} UTC", err=True)
    return ExitCode.OK if by_group else ExitCode.FAILURE


def moment_of(text: str, now: float) -> float:
    """Epoch seconds of a moment as people write it. Raises: click.BadParameter."""
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if ago is not None:
        return now - float(ago[1]) * UNITS[ago[2]]
    day = datetime.fromtimestamp(now, UTC)
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text.strip()):
            hours, minutes, seconds = (*map(int, text.split(":")), 0)[:3]
            found = day.replace(hour=hours, minute=minutes, second=seconds, microsecond=999_999).timestamp()
            return found if found <= now else found - DAY_S
        read = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.BadParameter(f"--at: expected 02:58, ISO 8601 or 30m, got {text!r}") from None
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()


def _plain(name: str, found: list[DecisionItem], last: int, at: float) -> dict[str, Any]:
    newest = found[0]
    told = {
        **msgspec.to_builtins(newest),
        "finding": finding(newest), "reason": reason(newest), "decided_by": decided_by(newest),
    }  # fmt: skip
    changes = [msgspec.to_builtins(one) for one in found[1:] if one.changed][:last]
    day: Account = account(found, at)
    return {
        "group": name, "decision": told, "before": changes,
        "day": {**msgspec.to_builtins(day), "saved_hours": day.saved_hours},
    }  # fmt: skip


def _say(name: str, found: list[DecisionItem], last: int, at: float) -> None:
    newest, day = found[0], account(found, at)
    mode = ", ".join(part for part in (MODES.get(newest.mode, newest.mode), newest.preset) if part)
    click.echo(f"{click.style(name, bold=True)}  {finding(newest)}  ({_clock(newest.at)} UTC, {mode})")
    click.echo(f"  because  {reason(newest)}")
    for kind, label in KINDS:
        bounds = [f"{NAMES.get(one.name, one.name)} {_slots(one.slots)}" for one in newest.bounds if one.kind == kind]
        if bounds:
            click.echo(f"  {label:<7}  {' · '.join(bounds)}")
    inputs = [_input(one) for one in newest.signals if one.name in INPUTS and one.value is not None]
    if inputs:
        click.echo(f"  inputs   {', '.join(inputs)}")
    for one in [each for each in found[1:] if each.changed][:last]:
        click.echo(f"  before   {_clock(one.at)}  {one.have} → {one.target}  {reason(one)}")
    used = f"{day.slot_hours:.2f} slot-hours, {day.changes} changes, at most {day.most} slots"
    if newest.mode == "dry":
        used += f"; following it {day.decided_hours:.2f}, which saves {day.saved_hours:.2f}"
    click.echo(f"  a day    {used}")


def _input(one: DecidedSignal) -> str:
    said = f"{INPUTS[one.name].lower()} {input_text(one.value, one.unit)}"
    if one.name in OF_ENTRIES:
        return f"{one.queue} {said}"
    return f"{said} in {one.queue}" if one.queue else said


def _slots(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
