"""``opsq report``: what a bug report needs, with every secret masked."""

from __future__ import annotations

import platform
import sys

import click

from opsq import __version__, plugins
from opsq.cli.output import json_flag, print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.settings import Settings

LIBRARIES = (
    "kombu", "msgspec", "click", "rich", "psutil", "starlette", "uvicorn", "jinja2", "prometheus-client",
    "redis", "celery", "amqp", "sqlalchemy",
)  # fmt: skip


@click.command()
@app_options
@json_flag
@pass_state
def report(state: CliState, as_json: bool) -> None:
    """Print versions, machine and the settings that differ from their defaults."""
    app = state.load_app()
    versions = {name: found for name in LIBRARIES if (found := plugins.installed_version(name))}
    shown, usual = app.settings.masked(), Settings().masked()
    changed = {name: value for name, value in shown.items() if value != usual[name]}
    machine = f"{platform.system()} {platform.release()} {platform.machine()}"
    python = sys.version.split()[0]
    if as_json:
        print_json(
            {"opsq": __version__, "python": python, "machine": machine, "libraries": versions, "settings": changed}
        )
        return
    click.echo(f"opsq {__version__}, Python {python}, {machine}")
    click.echo("libraries: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    click.echo("settings that differ from their defaults:" if changed else "all settings have their defaults")
    for name, value in changed.items():
        click.echo(f"  {name} = {value!r}")
