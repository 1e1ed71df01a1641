"""``opsq up``: a worker and the monitor on this machine, with nothing to configure.

Two processes, so that the page lives on when the worker dies.
"""

from __future__ import annotations

import sys
import threading

import click

from opsq.cli.scaling import autoscale_options
from opsq.cli.state import CliState, app_options, pass_state, setting_flag
from opsq.cli.supervisor import Child, Supervisor

EXAMPLES = """\b
Examples:
  opsq up -A shop.tasks               page on http://127.0.0.1:5555
  opsq up -A shop.tasks --autoreload  new tasks run what you have just saved
  opsq up -A shop.tasks -P threads -c 20 --port 8080
"""
# How long running tasks may take to end after Ctrl-C, unless worker_shutdown_timeout says otherwise.
WARM_S = 30.0
COLOURS = {"worker": "blue", "monitor": "cyan"}


@click.command(epilog=EXAMPLES)
@app_options
@setting_flag("worker_pool", "-P", "--pool", metavar="POOL")
@setting_flag("worker_concurrency", "-c", "--concurrency", metavar="SLOTS")
@autoscale_options
@setting_flag("web_host", "--host", metavar="ADDRESS")
@setting_flag("web_port", "--port", metavar="PORT")
@setting_flag("worker_autoreload", "--autoreload/--no-autoreload", default=None)
@setting_flag("log_level", "-l", "--loglevel", metavar="LEVEL")
@pass_state
def up(state: CliState) -> int:
    """Start a worker and the monitor, and keep both running until Ctrl-C."""
    settings = state.load_app(needed_by="up").settings
    shared = _given_again(state)
    named = ("-A", state.app_spec) if state.app_spec else ()  # else the setting `app` says it, in the child too
    warm_s = settings.worker_shutdown_timeout or WARM_S
    children = (
        Child("monitor", ("-m", "opsq", "monitor", *shared)),
        Child("worker", ("-m", "opsq", "worker", "-B", *named, *shared), warm_s=warm_s),
    )
    _say("opsq", f"data in {settings.data_dir}, page on http://{settings.web_host}:{settings.web_port}; Ctrl-C ends it")
    return Supervisor(children, _say).run()


def _given_again(state: CliState) -> list[str]:
    return [part for name, value in state.overrides.items() for part in ("--set", f"{name}={value}")]


_SAYING = threading.Lock()


def _say(name: str, line: str) -> None:
    # Two relay threads print at once; without the lock their lines run into each other.
    with _SAYING:
        prefix = click.style(f"{name:>7} │ ", fg=COLOURS.get(name))
        click.echo(prefix + line)
        sys.stdout.flush()
