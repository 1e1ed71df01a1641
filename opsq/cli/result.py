"""``opsq result``: what is stored of a task."""

from __future__ import annotations

import click

from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ExitCode, ResultTimeout
from opsq.states import READY_STATES


@click.command(epilog="\b\nExample:\n  opsq result 4f0c... --wait --timeout 10\n")
@app_options
@click.argument("task_id")
@click.option("--traceback", "show_traceback", is_flag=True, help="Print the traceback of a failure.")
@click.option("--wait", is_flag=True, help="Wait until the task has ended.")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long to wait.")
@json_flag
@pass_state
def result(
    state: CliState, task_id: str, show_traceback: bool, wait: bool, timeout: float | None, as_json: bool
) -> int:
    """Show the state and the result of the task TASK_ID."""
    stored = state.load_app().AsyncResult(task_id)
    if wait:
        try:
            stored.get(timeout=timeout, propagate=False)
        except ResultTimeout as error:
            click.echo(f"opsq: {error}", err=True)
            return ExitCode.UNAVAILABLE
    status = stored.state
    if as_json:
        print_json({"id": task_id, "state": status, "result": stored.result, "traceback": stored.traceback})
    elif show_traceback and stored.traceback:
        click.echo(stored.traceback)
    elif status in READY_STATES:
        click.echo(repr(stored.result))
    else:
        click.echo(f"{status}: no result is stored yet, or the id is not known")
    return ExitCode.OK if status in READY_STATES else ExitCode.UNAVAILABLE
