"""The ``opsq`` command: finds the sub-command, renders errors, sets the exit code.

Sub-commands are loaded when they are called, so that ``opsq worker`` never imports the web server
and starts in a third of a second. Every failure is two things: one sentence on stderr that says
what to do, and an exit code from ``opsq.errors.ExitCode``.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from opsq import __version__, plugins
from opsq.cli.state import CliState, app_options
from opsq.errors import ExitCode, OpsqError

# Name of a sub-command → where it lives and what it does; the second part is shown by --help
# without importing the module.
COMMANDS = {
    "up": ("opsq.cli.up:up", "Start a worker and the monitor together, with nothing to configure."),
    "worker": ("opsq.cli.worker:worker", "Start a worker."),
    "beat": ("opsq.cli.beat:beat", "Send calls when they are due, by the schedule."),
    "schedule": ("opsq.cli.schedule:schedule", "Change a running schedule: list, add, edit, pause, run now."),
    "monitor": ("opsq.cli.monitor:monitor", "Watch a cluster: page, metrics and history."),
    "tasks": ("opsq.cli.tasks:tasks", "Search the history of tasks."),
    "why": ("opsq.cli.why:why", "Say why a task does not run, and what would help."),
    "migrate": ("opsq.cli.migrate:migrate", "Bring the history to this version."),
    "history": ("opsq.cli.history:history", "Check that the history is what its events say."),
    "call": ("opsq.cli.call:call", "Send a task by name."),
    "result": ("opsq.cli.result:result", "Show the result of a task."),
    "status": ("opsq.cli.inspect:status", "List the workers that answer."),
    "inspect": ("opsq.cli.inspect:inspect", "Ask workers how they are."),
    "control": ("opsq.cli.control:control", "Have workers do something."),
    "events": ("opsq.cli.events:events", "Print what workers and clients announce, or have a camera look."),
    "top": ("opsq.cli.top:top", "Workers, tasks and queues in the terminal, live."),
    "purge": ("opsq.cli.purge:purge", "Delete all waiting messages of queues."),
    "quarantine": ("opsq.cli.quarantine:quarantine", "Messages that were set aside: list, show, release, drop."),
    "autoscale": ("opsq.cli.autoscale:autoscale", "Explain decisions about slots; try policies on a load."),
    "users": ("opsq.cli.users:users", "Who may sign in to the pages: add, list, remove, make tokens."),
    "config": ("opsq.cli.config:config", "Show and check the configuration."),
    "report": ("opsq.cli.report:report", "Print what a bug report needs."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        found = plugins.resolve(COMMANDS[cmd_name][0])
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` begin with, or say which was probably meant."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"There is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


EXAMPLES = """\b
Examples:
  opsq up -A shop.tasks                 worker, monitor and page on this machine
  opsq -A shop.tasks worker -c 4        one worker with four slots
  opsq call shop.tasks.resize -a '["cat.png", 320]' --wait
  opsq config show --origin             every setting and where it came from
"""


@click.group(cls=LazyGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="opsq")
@app_options
def cli() -> None:
    """Background jobs for Python, and knowing what they are doing."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with what it returned."""
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments
    state = CliState(started_in=os.getcwd() if args is None else None)
    try:
        words = [a for a in arguments if a != "--debug"]
        code = cli.main(words, prog_name="opsq", standalone_mode=False, obj=state)
    except click.exceptions.Abort:
        sys.exit(ExitCode.FAILURE)
    except click.ClickException as error:
        _complain(error)
        sys.exit(ExitCode.USAGE)
    except OpsqError as error:
        if debug:
            traceback.print_exc()
        _say(str(error))
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _complain(error: click.ClickException) -> None:
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "opsq"
    _say(error.format_message())
    click.echo(f"Try '{where} --help'.", err=True)


def _say(message: str) -> None:
    lines = message.splitlines() or [message]
    for line in lines:
        click.echo(f"opsq: {line}", err=True)


if __name__ == "__main__":
    main()
