"""``opsq inspect`` and ``opsq status``: ask workers how they are."""

from __future__ import annotations

import click

from opsq.cli.output import print_json
from opsq.cli.remote_call import RemoteCommand, ask, find, remote_options
from opsq.cli.remote_show import show
from opsq.cli.state import CliState, pass_state
from opsq.control.commands import COMMANDS
from opsq.errors import ExitCode

EXAMPLES = """\b
Examples:
  opsq inspect active                       what runs now, everywhere
  opsq inspect -d w1@host stats --json      one worker's figures, for programs
  opsq inspect query_task 7c0f4b52-3c4d-4c9e-9d36-0f3c1a2b5d11
"""


@click.command(cls=RemoteCommand, epilog=EXAMPLES)
@remote_options
@click.argument("command")
@click.argument("words", nargs=-1, metavar="[ARGUMENT]...")
@pass_state
def inspect(
    state: CliState,
    command: str,
    words: tuple[str, ...],
    destination: tuple[str, ...],
    timeout: float | None,
    as_json: bool,
) -> int:
    """Ask workers COMMAND, and print what each answers. ARGUMENT: a value, or name=value."""
    row = find(command, "read", state)
    answered = ask(state, command, words, row, {"destination": destination, "timeout": timeout})
    return show(answered, as_json, row, destination)


@click.command()
@remote_options
@pass_state
def status(state: CliState, destination: tuple[str, ...], timeout: float | None, as_json: bool) -> int:
    """List the workers that answer."""
    options = {"destination": destination, "timeout": timeout}
    answers = ask(state, "ping", (), COMMANDS["ping"], options).answers
    if as_json:
        print_json({"online": sorted(answers)})
    else:
        for node in sorted(answers):
            click.echo(f"{node}: OK")
        click.echo(f"{len(answers)} {'worker' if len(answers) == 1 else 'workers'} online")
    complete = answers and all(node in answers for node in destination)
    return ExitCode.OK if complete else ExitCode.UNAVAILABLE
