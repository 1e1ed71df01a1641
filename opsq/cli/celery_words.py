"""Spellings of options that Celery has, or had, and opsq calls otherwise: accepted with one notice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

OLD: Final[Mapping[str, str]] = {
    "--maxtasksperchild": "--max-tasks-per-child",
    "--maxmemperchild": "--max-memory-per-child",
    "--discard": "--purge",
    "--events": "--task-events",
    "--state-db": "--statedb",
    "--log-level": "--loglevel",
    "--log-file": "--logfile",
    "--pid-file": "--pidfile",
}


def as_today(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return ``words`` with today's spellings, and what was changed. Pure."""
    now: list[str] = []
    changed: list[tuple[str, str]] = []
    for place, word in enumerate(words):
        if word == "--":
            return now + list(words[place:]), changed
        name, equals, value = word.partition("=")
        if name in OLD:
            changed.append((name, OLD[name]))
            word = OLD[name] + equals + value
        now.append(word)
    return now, changed


class WorkerCommand(click.Command):
    """A command that understands the old spellings too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put today's spellings in, saying so once."""
        words, changed = as_today(args)
        if changed:
            said = ", ".join(f"{old} is now {new}" for old, new in dict(changed).items())
            click.echo(f"opsq: {said}", err=True)
        return super().parse_args(ctx, words)


def flag_value(name: str, value: object) -> Any:
    """Make a click callback that gives the setting ``name`` this value when its flag is there."""

    def store(ctx: click.Context, param: click.Parameter, given: bool) -> None:
        if given:
            ctx.obj.overrides[name] = value

    return store
