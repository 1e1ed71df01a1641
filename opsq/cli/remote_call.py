"""What ``control``, ``inspect`` and ``status`` share: options, and asking."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from msgspec import Struct

from opsq.cli.output import json_flag
from opsq.cli.state import CliState, app_options
from opsq.control.arguments import from_words, seconds
from opsq.control.commands import BY_ANY_NAME, COMMANDS, Command
from opsq.core.own_commands import own_commands
from opsq.errors import OpsqError
from opsq.masking import mask

F = TypeVar("F", bound=Callable[..., Any])


class Answered(Struct, frozen=True):
    """What workers answered, by node name. kept: the broker keeps the order for workers that start later."""

    answers: dict[str, Any]
    kept: bool = False


class RemoteCommand(click.Command):
    """A command whose help lists the remote commands of one effect, those of the user's app too."""

    effect = "read"

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the built-in commands, the app's own when ``-A`` names it, and the examples."""
        rows = [each for each in COMMANDS.values() if each.effect == self.effect and not each.hidden]
        formatter.write_paragraph()
        with formatter.section("Commands"):
            formatter.write_dl([(each.usage(), each.doc) for each in rows], col_max=38)
        state = ctx.find_object(CliState)
        own = own_rows(state, self.effect) if state is not None and state.app_spec is not None else []
        if own:
            with formatter.section(f"Commands of {state.app_spec if state else ''}"):
                formatter.write_dl([(each.usage(), each.doc) for each in own], col_max=38)
        super().format_epilog(ctx, formatter)


class ControlCommand(RemoteCommand):
    """The same for commands that change something."""

    effect = "write"


def own_rows(state: CliState, effect: str) -> list[Command]:
    """The remote commands that the user's app declares; none of an app that cannot be loaded just now."""
    try:
        app = state.load_app()
        app.import_task_modules()
    except OpsqError as exc:
        click.echo(f"opsq: your own commands are not listed: {exc}", err=True)
        return []
    found = {id(each): each.command for each in own_commands(app).values()}
    return [each for each in found.values() if each.effect == effect and not each.hidden]


def remote_options(command: F) -> F:
    """Give a command the options of everything that is asked of workers."""
    options: tuple[Callable[[Any], Any], ...] = (
        app_options,
        click.option(
            "-d", "--destination", metavar="NODES", callback=_nodes, help="Only these workers, node names by comma."
        ),
        click.option(
            "-t", "--timeout", type=click.FloatRange(min=0.0), metavar="SECONDS", help="Wait for replies.  [1]"
        ),
        json_flag,
    )
    for option in reversed(options):
        command = option(command)
    return command


def _nodes(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


def length_of_time(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read an option such as ``2h`` into seconds. Raises: click.BadParameter."""
    try:
        return None if value is None else seconds(value)
    except ValueError:
        raise click.BadParameter(f"expected a time such as 90s, 5m, 2h or 1d, got {value!r}") from None


def find(name: str, effect: str, state: CliState) -> Command | None:
    """The row of the table, or of the user's app; None for a command of some worker's own.

    Raises: click.UsageError for what is listed elsewhere, or looks like a typing error.
    """
    command = BY_ANY_NAME.get(name)
    own: Sequence[Command] = ()
    if command is None and state.app_spec is not None:
        own = [*own_rows(state, "read"), *own_rows(state, "write")]
        command = next((each for each in own if name in (each.name, *each.aliases)), None)
    if command is not None and command.effect == effect:
        return command
    other = "inspect" if effect == "write" else "control"
    if command is not None:
        raise click.UsageError(f"{name} is asked with `opsq {other} {name}`.")
    known = [each.name for each in (*COMMANDS.values(), *own) if not each.hidden]
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        raise click.UsageError(f"There is no command {name!r}. Did you mean {near[0]!r}?")
    return None


def ask(
    state: CliState,
    name: str,
    words: Sequence[str],
    command: Command | None,
    options: Mapping[str, Any],
) -> Answered:
    """Send one command and collect what each worker answers. options: destination, timeout, for_s.

    Raises: UsageError for arguments that do not fit, BrokerUnavailable.
    """
    arguments = from_words(command, words) if command is not None else _own(words)
    if options.get("for_s") is not None:
        if command is None or "for_s" not in {each.name for each in command.arguments}:
            raise click.UsageError(f"{name} does not end by itself; --for means nothing with it.")
        arguments["for_s"] = options["for_s"]
    timeout_s, destination = options["timeout"], options["destination"] or None
    if timeout_s is None:
        timeout_s = command.timeout_s if command is not None else 1.0
    app = state.load_app()
    broker = app.settings.resolved_broker_url("read")
    click.echo(f"broker: {mask(broker if isinstance(broker, str) else ';'.join(broker))}", err=True)
    try:
        control = app.control
        kept = destination is None and bool(control.keep(name, arguments))
        answers = control.broadcast(name, arguments, destination, reply=True, timeout=timeout_s, kept=kept)
    finally:
        app.close()
    return Answered({node: answer for each in answers or () for node, answer in each.items()}, kept)


def _own(words: Sequence[str]) -> dict[str, Any]:
    """Arguments of a command that is not in the table: ``name=value`` only, values as JSON or text."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise click.UsageError(f"a worker's own command takes name=value, got {word!r}")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
