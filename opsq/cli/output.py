"""How a command says things: to people on a terminal, to programs as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click
from rich.console import Console

_UNBOUNDED: Final = 1_000
F = TypeVar("F", bound=Callable[..., Any])


def json_flag(command: F) -> F:
    """Give a command ``--json``, passed to it as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")(command)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line; what JSON cannot say is printed as its repr."""
    click.echo(json.dumps(value, default=repr))


def console() -> Console:
    """Where tables are printed: as wide as the terminal; elsewhere as wide as they are, so that programs find ids."""
    made = Console(markup=False, highlight=False, emoji=False)
    return made if made.is_terminal else Console(markup=False, highlight=False, emoji=False, width=_UNBOUNDED)


def parse_json(text: str | None, kind: type, option: str) -> Any:
    """Read the JSON text of ``option``, which must be a ``kind``; empty text is an empty one.

    Raises: click.BadParameter with the position of the fault and an example.
    """
    if not text:
        return kind()
    example = "'[1, 2]'" if kind is list else "'{\"x\": 1}'"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}; write for example {option} {example}") from error
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "an object"
        raise click.BadParameter(f"expected {wanted}, got {text!r}; write for example {option} {example}")
    return value
