"""``opsq history``: look after the stored history."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ConfigError, ExitCode, Fault
from opsq.events.rebuild import Rebuilt, rebuild
from opsq.events.stores import open_store, versions
from opsq.masking import mask_url

_TOLD_LINES = 20
EXAMPLES = """\b
Examples:
  opsq history rebuild                     compare; exit code 1 when something differs
  opsq history rebuild --write             put right what differs
  opsq history rebuild --json --store postgresql://db/opsq
"""


@click.group()
def history() -> None:
    """Look after the stored history."""


@history.command("rebuild", epilog=EXAMPLES)
@app_options
@click.option("--store", "url", metavar="URL", help="The history; default is the monitor's own setting.")
@click.option("--write", is_flag=True, help="Put right what differs, all in one transaction.")
@json_flag
@pass_state
def rebuild_command(state: CliState, url: str | None, write: bool, as_json: bool) -> int:
    """Derive counts, figures, error groups and anomalies from the stored events again, and compare.

    Exit code 1 when something differs and is not written. A monitor that writes the same SQLite file must be stopped;
    those that write the same PostgreSQL wait for as long as this reads.
    """
    url = url or state.load_settings().resolved_store_url()
    if not versions(url)[0]:
        raise ConfigError([Fault(f"there is no history in {mask_url(url)}", "monitor_store_url")])
    store = open_store(url)
    try:
        with store.alone():
            found = rebuild(store, time.time(), progress=_progress(as_json))
            written = write and bool(found.changes)
            if written:
                store.write(found.changes)
    finally:
        store.close()
    _show(found, mask_url(url), written=written, as_json=as_json)
    return ExitCode.FAILURE if found.differences and not written else ExitCode.OK


def _progress(quiet: bool) -> Any:
    shown = not quiet and sys.stderr.isatty()

    def tell(rows: int) -> None:
        if shown:
            click.echo(f"\r{rows:,} tasks read", nl=False, err=True)

    return tell


def _show(found: Rebuilt, where: str, *, written: bool, as_json: bool) -> None:
    if as_json:
        print_json({
            "store": where, "checked": dict(found.checked), "different": dict(found.different),
            "differences": [one._asdict() for one in found.told], "removed_rows": found.removed.rows,
            "exact_since": found.removed.until_at, "written": written,
        })  # fmt: skip
        return
    for one in found.told[:_TOLD_LINES]:
        click.echo(f"{one.what} {one.name}: kept {one.kept}, derived {one.derived}")
    if found.differences > _TOLD_LINES:
        click.echo(f"… and {found.differences - _TOLD_LINES:,} more; --json names up to 100 of a kind")
    looked = ", ".join(f"{n:,} {what}s" for what, n in found.checked.items()).replace("anomalys", "kinds of anomaly")
    click.echo(f"{where}: {looked} compared, {found.differences:,} differ{'; put right' if written else ''}")
    if found.removed.rows:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(found.removed.until_at))
        click.echo(
            f"{found.removed.rows:,} tasks were removed by age or size; figures are exact after {since} UTC, "
            "older ones may be larger than the tasks that are left"
        )
