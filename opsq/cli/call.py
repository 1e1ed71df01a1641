"""``opsq call``: send a task by name, and wait for its result when asked to."""

from __future__ import annotations

import click

from opsq.cli.output import json_flag, parse_json, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ExitCode, ResultTimeout

EXAMPLES = """\b
Examples:
  opsq call shop.add -a '[2, 3]' --wait
  opsq call shop.mail -k '{"to": "ann"}' --countdown 60 --queue mail
"""


@click.command(epilog=EXAMPLES)
@app_options
@click.argument("name")
@click.option("-a", "--args", "args_text", metavar="JSON", help="Positional arguments, a JSON list.")
@click.option("-k", "--kwargs", "kwargs_text", metavar="JSON", help="Keyword arguments, a JSON object.")
@click.option("--countdown", type=float, metavar="SECONDS", help="Run this much later.")
@click.option("--eta", metavar="TIME", help="Run at this time, ISO 8601.")
@click.option("--expires", metavar="SECONDS|TIME", help="Do not run it after this.")
@click.option("--queue", metavar="NAME", help="The queue to send it to.")
@click.option("--exchange", metavar="NAME", help="The exchange to send it to.")
@click.option("--routing-key", metavar="KEY", help="The routing key to send it with.")
@click.option("--priority", type=click.IntRange(0, 9), help="0 to 9, 9 runs first.")
@click.option("--serializer", metavar="NAME", help="How the arguments are encoded.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long to wait.")
@json_flag
@pass_state
def call(
    state: CliState,
    name: str,
    args_text: str | None,
    kwargs_text: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **options: str | float | None,
) -> int:
    """Send the task NAME and print its id."""
    args = parse_json(args_text, list, "--args")
    kwargs = parse_json(kwargs_text, dict, "--kwargs")
    options["expires"] = _seconds_or_text(options["expires"])
    app = state.load_app()
    given = {key: value for key, value in options.items() if value is not None}
    result = app.send_task(name, args, kwargs, **given)
    if not wait:
        print_json({"id": result.id, "task": name}) if as_json else click.echo(result.id)
        return ExitCode.OK
    try:
        result.get(timeout=timeout, propagate=False)
    except ResultTimeout as error:
        click.echo(f"opsq: {error}", err=True)
        return ExitCode.UNAVAILABLE
    if as_json:
        print_json({"id": result.id, "task": name, "state": result.state, "result": result.result})
    else:
        click.echo(repr(result.result))
    return ExitCode.OK if result.successful() else ExitCode.FAILURE


def _seconds_or_text(value: str | float | None) -> str | float | None:
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return value
