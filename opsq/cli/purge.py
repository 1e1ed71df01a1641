"""``opsq purge``: delete all waiting messages of queues."""

from __future__ import annotations

import click

from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ExitCode


@click.command(epilog="\b\nExample:\n  opsq purge -A shop.tasks -Q mail,images\n")
@app_options
@click.option("-Q", "--queues", metavar="NAMES", help="Queues to empty, by comma; all of the app's by default.")
@click.option("-X", "--exclude-queues", metavar="NAMES", help="Queues to leave alone, by comma.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@json_flag
@pass_state
def purge(state: CliState, queues: str | None, exclude_queues: str | None, force: bool, as_json: bool) -> int:
    """Delete all messages that wait in queues. What is running goes on. It cannot be undone."""
    app = state.load_app()
    left_out = {name.strip() for name in (exclude_queues or "").split(",")}
    named = [name.strip() for name in queues.split(",")] if queues else list(app.queues)
    names = [name for name in named if name and name not in left_out]
    waiting = app.queue_depths(names)
    total = sum(waiting.values())
    if total and not force:
        click.confirm(f"Delete {total} waiting messages of {', '.join(names)}? It cannot be undone.", abort=True)
    deleted = {name: app.purge_queue(name) for name in names}
    if as_json:
        print_json({"deleted": deleted})
    else:
        for name, count in deleted.items():
            click.echo(f"{name}: {count} deleted")
    return ExitCode.OK
