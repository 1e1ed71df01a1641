"""What ``control``, ``inspect`` and ``status`` share: options, asking, and showing who answered what."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options
from opsq.control.commands import BY_ANY_NAME, COMMANDS, Command, from_words
from opsq.errors import ExitCode
from opsq.masking import mask

F = TypeVar("F", bound=Callable[..., Any])


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


def find(name: str, effect: str) -> Command | None:
    """The row of the table; None for a command of some worker's own.

    Raises: click.UsageError for what is listed elsewhere, or looks like a typing error.
    """
    command = BY_ANY_NAME.get(name)
    if command is not None and command.effect == effect:
        return command
    other = "inspect" if effect == "write" else "control"
    if command is not None:
        raise click.UsageError(f"{name} is asked with `opsq {other} {name}`.")
    near = difflib.get_close_matches(name, [each.name for each in COMMANDS.values() if not each.hidden], n=1)
    if near:
        raise click.UsageError(f"There is no command {name!r}. Did you mean {near[0]!r}?")
    return None


def listing(effect: str) -> str:
    """The commands of one effect, for ``--help``."""
    rows = [each for each in COMMANDS.values() if each.effect == effect and not each.hidden]
    width = max(len(each.usage()) for each in rows) if rows else 0
    width = min(width, 44)
    lines = [f"  {each.usage():<{width}}  {each.doc}" for each in rows]
    return "\b\nCommands:\n" + "\n".join(lines)


def ask(
    state: CliState,
    name: str,
    words: Sequence[str],
    command: Command | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Send one command and collect what each worker answers. options: destination and timeout.

    Raises: UsageError for arguments that do not fit, BrokerUnavailable.
    """
    arguments = from_words(command, words) if command is not None else _own(words)
    timeout_s = options["timeout"]
    if timeout_s is None:
        timeout_s = command.timeout_s if command is not None else 1.0
    app = state.load_app()
    broker = app.settings.resolved_broker_url("read")
    click.echo(f"broker: {mask(broker if isinstance(broker, str) else ';'.join(broker))}", err=True)
    try:
        answers = app.control.broadcast(name, arguments, options["destination"] or None, reply=True, timeout=timeout_s)
    finally:
        app.close()
    return {node: answer for each in answers or () for node, answer in each.items()}


def show(answers: Mapping[str, Any], as_json: bool, command: Command | None, asked: Sequence[str] = ()) -> int:
    """Print what each worker answered; the exit code: 69 when nobody did, 1 when somebody could not."""
    silent = command is not None and command.silent
    if as_json:
        print_json(answers)
    else:
        for node in sorted(answers):
            click.echo(f"{node}: {_text(answers[node])}")
    missing = [node for node in asked if node not in answers]
    if not answers and not silent:
        click.echo("opsq: no worker answered in time; are there any at this broker? try a longer -t", err=True)
        return ExitCode.UNAVAILABLE
    if missing and not silent:
        click.echo(f"opsq: no answer from {', '.join(missing)}", err=True)
        return ExitCode.UNAVAILABLE
    if silent and not answers:
        click.echo("sent; this command is not answered", err=True)
    return ExitCode.FAILURE if any(_failed(answer) for answer in answers.values()) else ExitCode.OK


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


def _failed(answer: Any) -> bool:
    return isinstance(answer, Mapping) and answer.keys() == {"error"}


def _text(answer: Any) -> str:
    if isinstance(answer, Mapping) and answer.keys() == {"ok"}:
        return str(answer["ok"])
    if _failed(answer):
        return f"error: {answer['error']}"
    if answer is None:
        return "OK"
    if isinstance(answer, (list, dict)) and not answer:
        return "none"
    if isinstance(answer, list) and all(isinstance(each, str) for each in answer):
        return "\n" + "\n".join(f"    {each}" for each in answer)
    if isinstance(answer, (list, dict)):
        return "\n" + "\n".join(f"    {line}" for line in json.dumps(answer, indent=2, default=repr).splitlines())
    return str(answer)
