"""``opsq schedule``: have the leading beat change its schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from opsq.cli.output import print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.control.arguments import from_words
from opsq.control.schedules import COMMANDS, TIMEOUT_S, ask
from opsq.errors import ExitCode

EXAMPLES = """\b
Examples:
  opsq schedule list
  opsq schedule add nightly "0 3 * * *" shop.tasks.report kwargs='{"full": true}' timezone=Europe/Berlin
  opsq schedule edit nightly schedule=6h
  opsq schedule pause nightly
  opsq schedule run nightly
"""
_VERBS = {name.removeprefix("schedule_"): row for name, row in COMMANDS.items()}


@click.command(epilog=EXAMPLES)
@app_options
@click.option(
    "-t", "--timeout", type=click.FloatRange(min=0.1), metavar="SECONDS", default=TIMEOUT_S, help="Wait for the answer."
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@click.argument("verb", type=click.Choice(sorted(_VERBS)))
@click.argument("words", nargs=-1, metavar="[ARGUMENT]...")
@pass_state
def schedule(state: CliState, verb: str, words: tuple[str, ...], timeout: float, as_json: bool) -> int:
    """Have the leading beat do VERB. ARGUMENT: a value, or name=value."""
    row = _VERBS[verb]
    app = state.load_app()
    try:
        answer = ask(app.control, row.name, from_words(row, words), timeout)
    finally:
        app.close()
    if as_json:
        print_json(answer)
    elif verb == "list":
        _show(answer)
    else:
        click.echo(answer.get("ok", answer))
    return ExitCode.OK


def _show(answer: dict[str, Any]) -> None:
    leader = answer.get("leader")
    click.echo(f"led by {leader['holder']}" if leader else "led by nobody")
    for line in answer["lines"]:
        about, kept = line["about"], line["state"]
        following = line["next_at"]
        when = "paused" if line["paused"] else "-" if following is None else _moment(following)
        click.echo(f"{line['name']}: {about['task']}, {about['schedule']}; next {when}; sent {kept['total']}")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
