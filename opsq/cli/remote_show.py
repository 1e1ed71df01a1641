"""Showing who answered what: a line per worker, a table where there is one, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from opsq.cli.output import console, print_json
from opsq.cli.remote_call import Answered
from opsq.control.commands import Command
from opsq.errors import ExitCode

WIDEST = 60
NARROW_AT = 100
"""Columns of a terminal below which a table's rows are shown one below the other."""


def show(
    answered: Answered, as_json: bool, command: Command | None, asked: Sequence[str] = (), for_s: float | None = None
) -> int:
    """Print what each worker answered; the exit code: 69 when nobody did and nothing was kept, 1 when somebody
    could not. asked: those who were named. for_s: how long it was to count.
    """
    answers = answered.answers
    if as_json:
        print_json(answers)
    elif command is not None and command.shape == "table" and any(map(_is_rows, answers.values())):
        _show_table(answers, command)
    else:
        for node in sorted(answers):
            click.echo(f"{node}: {_text(answers[node])}")
    _warn_of_the_lasting(answers, command, for_s)
    if answered.kept:
        click.echo("kept in the broker: workers that start later obey it too", err=True)
    elif command is not None and command.standing and not asked:
        click.echo("not kept in the broker: only the workers that answered obey it, until they end", err=True)
    missing = [node for node in asked if node not in answers]
    if command is not None and command.silent:
        if not answers:
            click.echo("sent; this command is not answered", err=True)
    elif missing and answers:
        click.echo(f"opsq: no answer from {', '.join(missing)}", err=True)
        return ExitCode.UNAVAILABLE
    elif not answers and not answered.kept:
        click.echo("opsq: no worker answered in time; are there any at this broker? try a longer -t", err=True)
        return ExitCode.UNAVAILABLE
    elif not answers:
        click.echo("no worker answered", err=True)
    return ExitCode.FAILURE if any(_failed(answer) for answer in answers.values()) else ExitCode.OK


def _warn_of_the_lasting(answers: Mapping[str, Any], command: Command | None, for_s: float | None) -> None:
    """Celery's workers take an argument they do not know without a word, and would never undo the change."""
    if for_s is None or command is None or command.origin != "celery" or command.standing:
        return
    for node, answer in sorted(answers.items()):
        if isinstance(answer, Mapping) and "ok" in answer and "until" not in answer:
            click.echo(f"opsq: {node} does not know --for: there it stays until somebody changes it", err=True)


def _show_table(answers: Mapping[str, Any], command: Command) -> None:
    out = console()
    rows = [(node, row) for node in sorted(answers) for row in answers[node] or () if isinstance(row, Mapping)]
    for node in sorted(answers):
        if not _is_rows(answers[node]):
            click.echo(f"{node}: {_text(answers[node])}")
    columns = [name for name in command.columns if any(_cell(row, name) for _, row in rows)]
    if out.width < NARROW_AT or any("\n" in _cell(row, name) for _, row in rows for name in columns):
        for node, row in rows:
            out.print(Text(f"{node}: {_cell(row, columns[0])}", style="bold"))
            for name in columns[1:]:
                out.print(Text(f"    {_heading(name)}: {_indented(_cell(row, name))}"), soft_wrap=True)
        return
    table = Table("worker", *map(_heading, columns), box=None, pad_edge=False, header_style="bold")
    for node, row in rows:
        table.add_row(node, *(Text(_cell(row, name)) for name in columns))
    out.print(table)


def _heading(name: str) -> str:
    return name.removeprefix("request.").replace("_", " ").replace(".", " ")


def _indented(text: str) -> str:
    return "\n" + "\n".join(f"        {line}" for line in text.splitlines()) if "\n" in text else text


def _cell(row: Any, path: str) -> str:
    value = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None or value == "":
        return ""
    if path == "time_start" and isinstance(value, (int, float)):
        return datetime.fromtimestamp(value).astimezone().strftime("%H:%M:%S")
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= WIDEST or "\n" in text else text[: WIDEST - 1] + "…"


def _is_rows(answer: Any) -> bool:
    return isinstance(answer, list) and bool(answer) and all(isinstance(each, Mapping) for each in answer)


def _failed(answer: Any) -> bool:
    return isinstance(answer, Mapping) and answer.keys() == {"error"}


def _text(answer: Any) -> str:
    if isinstance(answer, Mapping) and "ok" in answer and answer.keys() <= {"ok", "until"}:
        until = answer.get("until")
        if not isinstance(until, (int, float)):
            return str(answer["ok"])
        return f"{answer['ok']}, until {datetime.fromtimestamp(until).astimezone():%Y-%m-%d %H:%M:%S}"
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
