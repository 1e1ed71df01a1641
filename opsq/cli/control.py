"""``opsq control``: have workers do something."""

from __future__ import annotations

import click

from opsq.cli.remote_call import ControlCommand, ask, find, length_of_time, remote_options
from opsq.cli.remote_show import show
from opsq.cli.state import CliState, pass_state

EXAMPLES = """\b
Examples:
  opsq control revoke 7c0f4b52-3c4d-4c9e-9d36-0f3c1a2b5d11 terminate=true
  opsq control rate_limit shop.mail 100/m --for 2h
  opsq control pause queue=mail
  opsq control -d w1@host pool_grow 2
"""


@click.command(cls=ControlCommand, epilog=EXAMPLES)
@remote_options
@click.option(
    "--for", "for_s", metavar="TIME", callback=length_of_time, help="How long it shall count: 90s, 5m, 2h, 1d."
)
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
    for_s: float | None,
) -> int:
    """Have workers carry out COMMAND, and print what each says. ARGUMENT: a value, or name=value."""
    row = find(command, "write", state)
    answered = ask(state, command, words, row, {"destination": destination, "timeout": timeout, "for_s": for_s})
    return show(answered, as_json, row, destination, for_s)
