"""``opsq quarantine``: messages that were set aside, why, and what is to become of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from opsq.broker.browse import Browser, browse
from opsq.broker.connection import open_connection
from opsq.broker.message import Delivery
from opsq.cli.output import json_flag, print_json
from opsq.cli.put_back import put_back
from opsq.cli.state import CliState, app_options, pass_state
from opsq.core.worker.quarantine import EVIDENCE_HEADER, Death, Evidence, evidence_in
from opsq.errors import ExitCode, UsageError

LIMIT: Final = 1_000
_BODY_CHARS: Final = 1_024

Kept = tuple[Delivery, Evidence]


@click.group(epilog="\b\nExample:\n  opsq quarantine list\n  opsq quarantine release 4f0c\n")
@app_options
def quarantine() -> None:
    """Messages that were set aside: they killed their process too often, or cannot be read."""


@quarantine.command("list")
@app_options
@click.option("--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="Look at so many at most.")
@json_flag
@pass_state
def list_(state: CliState, limit: int, as_json: bool) -> int:
    """List what is set aside, oldest first."""
    with _opened(state) as (browser, _):
        kept = list(_kept(browser, limit))
    if as_json:
        print_json({"quarantined": [_summary(*one) for one in kept]})
        return ExitCode.OK
    if not kept:
        click.echo("Nothing is set aside.")
    for _, evidence in kept:
        told = f"{evidence.id}  {_when(evidence.at)}  {evidence.kind:<9}  {evidence.task or '-'}  {evidence.reason}"
        click.echo(_printable(told))
    return ExitCode.OK


@quarantine.command()
@app_options
@click.argument("message_id", metavar="ID")
@json_flag
@pass_state
def show(state: CliState, message_id: str, as_json: bool) -> int:
    """Show one message with its evidence. The beginning of its ID is enough."""
    with _opened(state) as (browser, _):
        delivery, evidence = _find(browser, message_id)
    if as_json:
        print_json(_everything(delivery, evidence))
        return ExitCode.OK
    for key, value in _everything(delivery, evidence).items():
        if key != "deaths" and value not in (None, ""):
            click.echo(f"{key:>12}  {_printable(value)}")
    for death in evidence.deaths:
        click.echo(_printable(f"{'death':>12}  {_when(death.at)}  {_told(death)}"))
    return ExitCode.OK


@quarantine.command()
@app_options
@click.argument("message_id", metavar="ID")
@json_flag
@pass_state
def release(state: CliState, message_id: str, as_json: bool) -> int:
    """Put one message back on its queue, its deaths forgotten. The beginning of its ID is enough."""
    with _opened(state) as (browser, app):
        delivery, evidence = _find(browser, message_id)
        assert browser is not None  # it was found there
        queue, stays = put_back(app, browser, delivery, evidence)
    if stays is not None:
        click.echo(f"The failure that is stored for {evidence.id} stays until it has run again: {stays}", err=True)
    if as_json:
        print_json({"released": evidence.id, "queue": queue})
    else:
        click.echo(f"{evidence.id}: back on {queue}")
    return ExitCode.OK


@quarantine.command()
@app_options
@click.argument("message_id", metavar="ID")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@json_flag
@pass_state
def drop(state: CliState, message_id: str, force: bool, as_json: bool) -> int:
    """Delete one message for good. The beginning of its ID is enough."""
    if not force:
        with _opened(state) as (browser, _):
            evidence = _find(browser, message_id)[1]
        click.confirm(f"Delete {evidence.id} ({evidence.task or evidence.kind})? It cannot be undone.", abort=True)
    with _opened(state) as (browser, _):
        delivery, evidence = _find(browser, message_id)
        if browser is not None:
            browser.remove(delivery)
    if as_json:
        print_json({"dropped": evidence.id})
    else:
        click.echo(f"{evidence.id}: deleted")
    return ExitCode.OK


@contextmanager
def _opened(state: CliState) -> Iterator[tuple[Browser | None, Any]]:
    """Look at the quarantine queue of the app; its own connection, closed at the end."""
    app = state.load_app()
    connection = open_connection(app.settings, purpose="read")
    try:
        connection.connect(app.settings.broker_connection_timeout)
        with browse(connection, app.settings.quarantine_queue) as browser:
            yield browser, app
    finally:
        connection.close()
        app.close()


def _kept(browser: Browser | None, limit: int) -> Iterator[Kept]:
    for number, delivery in enumerate(browser or (), 1):
        yield delivery, evidence_in(delivery)
        if number >= limit:
            return


def _find(browser: Browser | None, message_id: str) -> Kept:
    """Return the oldest message of this id, or the only one whose id begins so. Raises: UsageError."""
    near: dict[str, Kept] = {}
    for delivery, evidence in _kept(browser, LIMIT):
        if evidence.id == message_id:
            return delivery, evidence
        if evidence.id.startswith(message_id):
            near.setdefault(evidence.id, (delivery, evidence))
    if len(near) == 1:
        return next(iter(near.values()))
    if near:
        raise UsageError(f"{len(near)} messages begin with {message_id!r}: {_some(near)}; give more of the ID")
    raise UsageError(f"no message {message_id!r} is set aside; `opsq quarantine list` shows those that are")


def _some(ids: Iterable[str]) -> str:
    found = list(ids)
    return ", ".join(found[:3]) + (", …" if len(found) > 3 else "")


def _summary(delivery: Delivery, evidence: Evidence) -> dict[str, Any]:
    return {**msgspec.to_builtins(evidence), "size_bytes": len(delivery.body)}


def _everything(delivery: Delivery, evidence: Evidence) -> dict[str, Any]:
    own = {str(key): value for key, value in delivery.headers.items() if key != EVIDENCE_HEADER}
    return {
        **_summary(delivery, evidence),
        "content_type": delivery.content_type,
        "headers": own,
        "body": bytes(delivery.body[:_BODY_CHARS]).decode("utf-8", "backslashreplace"),
    }


def _printable(value: Any) -> str:
    """What a peer sent, without what would move the cursor of a terminal."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else "at an unknown time"


def _told(death: Death) -> str:
    return f"{death.how} on {death.host or 'an unknown host'} ({death.worker})"
