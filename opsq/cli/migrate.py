"""``opsq migrate``: bring the history's tables to this version, or say what would be done."""

from __future__ import annotations

import click

from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ExitCode
from opsq.events.stores import open_store, versions
from opsq.masking import mask_url

EXAMPLES = """\b
Examples:
  opsq migrate --check                       exit code 1 when something is to be done
  opsq migrate --store postgresql://db/opsq
"""


@click.command(epilog=EXAMPLES)
@app_options
@click.option("--store", "url", metavar="URL", help="The history; default is the monitor's own setting.")
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 when tables are older than this program.")
@json_flag
@pass_state
def migrate(state: CliState, url: str | None, check: bool, as_json: bool) -> int:
    """Bring the history to this version of opsq. A monitor does the same when it starts."""
    url = url or state.load_settings().resolved_store_url()
    found, wanted = versions(url)
    if not check and found != wanted:
        open_store(url).close()
    now = found if check else versions(url)[0]
    if as_json:
        print_json({"store": mask_url(url), "found": found, "version": now, "wanted": wanted})
    else:
        steps = "nothing to do" if found == wanted else f"{'to do: ' if check else 'done: '}{found} to {wanted}"
        click.echo(f"{mask_url(url)}: history version {now}, this program knows {wanted}; {steps}")
    return ExitCode.FAILURE if check and found != wanted else ExitCode.OK
