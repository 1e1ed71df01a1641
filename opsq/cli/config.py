"""``opsq config``: show the settings and where each came from, check them, write their manual page."""

from __future__ import annotations

from pathlib import Path

import click

from opsq.cli.output import json_flag, print_json
from opsq.cli.settings_page import as_text, manual_page
from opsq.cli.state import CliState, app_options, pass_state
from opsq.errors import ConfigError, ExitCode, Fault
from opsq.settings import OPTIONS
from opsq.settings_load import DEFAULT, Loaded, load, nearest


@click.group()
def config() -> None:
    """Show and check the configuration."""


@config.command()
@click.argument("names", nargs=-1)
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@click.option("--changed", is_flag=True, help="Only settings that somebody set.")
@json_flag
@app_options
@pass_state
def show(state: CliState, names: tuple[str, ...], origin: bool, changed: bool, as_json: bool) -> None:
    """Print every setting, or only NAMES, with secrets starred."""
    loaded = _load(state)
    rows = {name: value for name, value in loaded.settings.masked().items() if name in (names or _all(loaded, changed))}
    _refuse_unknown(names)
    if as_json:
        origins = {name: {"value": value, "origin": str(loaded.origins[name])} for name, value in rows.items()}
        print_json(origins if origin else rows)
        return
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        line = f"{name:<{width}}  {as_text(value)}"
        click.echo(f"{line}  # {loaded.origins[name]}" if origin else line)


@config.command()
@json_flag
@app_options
@pass_state
def check(state: CliState, as_json: bool) -> int:
    """Check the configuration; say everything that is wrong at once, exit with 2."""
    try:
        loaded = _load(state)
    except ConfigError as error:
        if not as_json:
            raise
        faults = [{"problem": fault.problem, "origin": fault.origin, "remedy": fault.remedy} for fault in error.faults]
        print_json({"ok": False, "faults": faults, "notices": []})
        return ExitCode.CONFIG
    if as_json:
        print_json({"ok": True, "faults": [], "notices": loaded.notices})
        return ExitCode.OK
    for notice in loaded.notices:
        click.echo(f"note: {notice}")
    where = f", file {loaded.path}" if loaded.path else ", no configuration file"
    click.echo(f"The configuration is good: {len(loaded.given())} of {len(OPTIONS)} settings given{where}.")
    return ExitCode.OK


@config.command(hidden=True)
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Write here instead of printing.")
def docs(write: Path | None) -> None:
    """Print the manual page of the settings, generated from their table."""
    if write is None:
        click.echo(manual_page(), nl=False)
    else:
        write.write_text(manual_page(), encoding="utf-8")


def _load(state: CliState) -> Loaded:
    if state.app_spec is not None:
        loaded: Loaded = state.load_app().conf.load()
        return loaded
    return load(cli=state.overrides)


def _all(loaded: Loaded, changed: bool) -> list[str]:
    return [name for name in OPTIONS if not changed or loaded.origins[name] != DEFAULT]


def _refuse_unknown(names: tuple[str, ...]) -> None:
    faults = []
    for name in names:
        if name not in OPTIONS:
            near = nearest(name, tuple(OPTIONS), 0.6)
            faults.append(Fault(f"there is no setting {name}", "", f"did you mean {near}?" if near else ""))
    if faults:
        raise ConfigError(faults)


if __name__ == "__main__":
    config()
