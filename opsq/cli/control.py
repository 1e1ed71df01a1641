"""``opsq control``: have workers do something."""

from __future__ import annotations

import click

from opsq.cli.remote_call import ask, find, listing, remote_options, show
from opsq.cli.state import CliState, pass_state

EXAMPLES = """\b
Examples:
  opsq control revoke 7c0f4b52-3c4d-4c9e-9d36-0f3c1a2b5d11 terminate=true
  opsq control rate_limit shop.mail 100/m
  opsq control -d w1@host pool_grow 2
"""


@click.command(epilog=f"{listing('write')}\n\n{EXAMPLES}")
@remote_options
@click.argument("command")
@click.argument("words", nargs=-1, metavar="[ARGUMENT]...")
@pass_state
def control(
    state: CliState,
    command: str,
    words: tuple[str, ...],
    destination: tuple[str, ...],
    timeout: float | None,
    as_json: bool,
) -> int:
    """Have workers carry out COMMAND, and print what each says. ARGUMENT: a value, or name=value."""
    row = find(command, "write")
    answers = ask(state, command, words, row, {"destination": destination, "timeout": timeout})
    return show(answers, as_json, row, destination)
