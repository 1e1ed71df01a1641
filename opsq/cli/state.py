"""What every command shares: the app to load and the settings given on the command line.

The shared options are accepted before the command and after it (``opsq -A app worker`` and
``opsq worker -A app``); the later one wins.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click

from opsq import plugins
from opsq.core.app import Opsq
from opsq.errors import UsageError
from opsq.settings import OPTIONS, Settings
from opsq.settings_load import load

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class CliState:
    """The shared options of one invocation; owned by the main thread.

    started_in: the folder this process was started in; None when a program handed the words over.
    """

    app_spec: str | None = None
    overrides: dict[str, object] = field(default_factory=dict)
    started_in: str | None = None

    def load_app(self, *, needed_by: str | None = None) -> Opsq:
        """Return the app that ``-A`` or the setting ``app`` names, with the command line's settings on top.

        needed_by: the command that cannot do without an app of the user's; ``None`` makes a bare
        app when nothing names one.
        Raises: ConfigError when the module or the app in it cannot be found.
        """
        spec = self.app_spec or load(cli=self.overrides).settings.app
        if spec is None:
            if needed_by is not None:
                raise UsageError(
                    f"opsq {needed_by} needs to know your app: opsq {needed_by} -A module:app "
                    "(a module that creates an opsq.Opsq), or OPSQ_APP"
                )
            app = Opsq("opsq")
        else:
            app = plugins.load_app(spec, Opsq)
        app.apply_cli(self.overrides)
        return app

    def load_settings(self) -> Settings:
        """Return the settings for a command that needs none of the user's code."""
        if self.app_spec is not None:
            return self.load_app().settings
        return load(cli=self.overrides).settings


def _set_app(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(CliState).app_spec = value


def _set_setting(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.ensure_object(CliState).overrides[name] = value

    return store


def _set_brokers(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:
    if values:
        ctx.ensure_object(CliState).overrides["broker_url"] = values[0] if len(values) == 1 else values


def _set_pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> None:
    for pair in values:
        name, found, value = pair.partition("=")
        if not found:
            raise click.BadParameter(f"expected name=value, got {pair!r}", ctx=ctx, param=param)
        ctx.ensure_object(CliState).overrides[name.strip()] = value


def _change_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        os.chdir(value)


def setting_flag(name: str, *flags: str, **attributes: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a click option that sets the setting ``name``; its help is the table's doc."""
    attributes.setdefault("help", OPTIONS[name].doc)
    return click.option(*flags, expose_value=False, callback=_set_setting(name), **attributes)


def app_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command the options that every command has."""
    options: tuple[Callable[[Any], Any], ...] = (
        click.option(
            "-A",
            "--app",
            metavar="MODULE[:APP]",
            expose_value=False,
            callback=_set_app,
            is_eager=True,
            help="The module that creates your app.",
        ),
        click.option(
            "--workdir",
            metavar="FOLDER",
            expose_value=False,
            callback=_change_folder,
            is_eager=True,
            type=click.Path(exists=True, file_okay=False),
            help="Change to this folder first.",
        ),
        click.option(
            "-b",
            "--broker",
            metavar="URL",
            multiple=True,
            expose_value=False,
            callback=_set_brokers,
            help=OPTIONS["broker_url"].doc,
        ),
        setting_flag("result_backend", "--result-backend", metavar="URL"),
        setting_flag("data_dir", "--data-dir", metavar="FOLDER"),
        setting_flag("django_skip_checks", "--skip-checks", is_flag=True, default=None),
        click.option(
            "--set",
            "pairs",
            metavar="NAME=VALUE",
            multiple=True,
            expose_value=False,
            callback=_set_pairs,
            help="Any setting by name; may be repeated.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def pass_state(command: Callable[..., R]) -> Callable[..., R]:
    """Hand the shared state to a command as its first argument."""

    @wraps(command)
    def with_state(*args: Any, **kwargs: Any) -> R:
        return command(click.get_current_context().ensure_object(CliState), *args, **kwargs)

    return with_state
