"""``opsq users``: who may sign in to the pages, and the tokens of programs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import UsageError
from opsq.web.access import accounts
from opsq.web.access.accounts import NAME, Accounts, Token, User
from opsq.web.access.assemble import users_file
from opsq.web.access.passwords import hash_password, new_token
from opsq.web.access.permissions import PERMISSIONS, ROLES, Role

LEAST_LENGTH = 10
_NAMES = tuple(permission.name for permission in PERMISSIONS)


@click.group()
def users() -> None:
    """Who may sign in to the pages. Changes count at once, also in a running monitor."""


@users.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What they may do.")
@click.option("--also", multiple=True, type=click.Choice(_NAMES), help="A permission beyond the role's.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@app_options
@pass_state
def add(state: CliState, name: str, role: Role, also: tuple[str, ...], password_stdin: bool) -> None:
    """Add a user, or give one a new password, role and permissions; old sessions of theirs end."""
    _check_name(name)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if len(password) < LEAST_LENGTH:
        raise UsageError(f"the password has {len(password)} characters; at least {LEAST_LENGTH} are needed")
    path, kept = _open(state)
    accounts.write(path, Accounts({**kept.users, name: User(role, hash_password(password), also)}, kept.tokens))
    click.echo(f"{name} may sign in as {role} ({path}).")


@users.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What it may do at most.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(_NAMES), help="Cut it down to these permissions.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Days until it ends; for ever without.")
@json_flag
@app_options
@pass_state
def token(state: CliState, name: str, role: Role, scopes: tuple[str, ...], days: float | None, as_json: bool) -> None:
    """Make a token for a program, such as Prometheus. It is shown once and kept as a hash."""
    _check_name(name)
    path, kept = _open(state)
    shown, hashed = new_token()
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    accounts.write(path, Accounts(kept.users, {**kept.tokens, name: Token(role, hashed, scopes, expires_at)}))
    if as_json:
        ends = expires_at.isoformat() if expires_at else None
        print_json({"name": name, "token": shown, "role": role, "scopes": scopes, "expires_at": ends})
        return
    click.echo(shown)
    click.echo("Send it as `Authorization: Bearer …`. It is not shown again.", err=True)


@users.command()
@click.argument("name")
@app_options
@pass_state
def remove(state: CliState, name: str) -> None:
    """Take a user or a token away."""
    path, kept = _open(state)
    if name not in kept.users and name not in kept.tokens:
        raise UsageError(f"there is no user and no token {name!r} in {path}; `opsq users list` shows them")
    people = {each: user for each, user in kept.users.items() if each != name}
    accounts.write(path, Accounts(people, {each: token for each, token in kept.tokens.items() if each != name}))
    click.echo(f"{name} is out.")


@users.command("list")
@json_flag
@app_options
@pass_state
def list_(state: CliState, as_json: bool) -> None:
    """List users and tokens, without anything secret."""
    path, kept = _open(state)
    rows = _rows(kept)
    if as_json:
        print_json({"file": str(path), "accounts": [msgspec.to_builtins(row) for row in rows]})
        return
    if not rows:
        click.echo(f"Nobody has an account ({path}); the pages are open on loopback. Add one: opsq users add NAME")
        return
    table = Table("name", "kind", "role", "may", "ends", box=None, pad_edge=False)
    for row in rows:
        ends = row.expires_at.strftime("%Y-%m-%d") if row.expires_at else "–"
        table.add_row(row.name, row.kind, row.role, " ".join(row.permissions), ends)
    Console().print(table)


class Row(msgspec.Struct, frozen=True):
    """One account as it is listed."""

    name: str
    kind: str
    role: str
    permissions: list[str]
    expires_at: datetime | None = None


def _rows(kept: Accounts) -> list[Row]:
    people = [Row(name, "user", user.role, sorted(user.grants())) for name, user in sorted(kept.users.items())]
    programs = [
        Row(name, "token", each.role, sorted(each.grants()), each.expires_at)
        for name, each in sorted(kept.tokens.items())
    ]
    return people + programs


def _open(state: CliState) -> tuple[Path, Accounts]:
    path = users_file(state.load_settings())
    return path, accounts.read(path)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name: letters, digits and ._@+-, beginning with a letter or digit, at most 64"
        )
