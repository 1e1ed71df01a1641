"""``opsq monitor``: the page, the metrics and the history of a cluster."""

from __future__ import annotations

import click

from opsq.cli.clusters import named, settings_by_name
from opsq.cli.processes import die_with
from opsq.cli.state import CliState, app_options, pass_state, setting_flag
from opsq.monitor import run_monitor

EXAMPLES = """\b
Examples:
  opsq monitor                               the embedded broker of this folder
  opsq monitor -b redis://broker:6379/0      any cluster, Celery's too, by its broker alone
  opsq monitor -b shop=redis://a -b mail=amqp://b    several clusters, each with a page
  opsq monitor --port 8080                   page on http://127.0.0.1:8080
"""


@click.command(epilog=EXAMPLES)
@app_options
@setting_flag("web_host", "--host", metavar="ADDRESS")
@setting_flag("web_port", "--port", metavar="PORT")
@setting_flag("web_url_prefix", "--url-prefix", metavar="PATH")
@setting_flag("monitor_enable_events", "--enable-events/--no-enable-events", default=None)
@setting_flag("log_level", "-l", "--loglevel", metavar="LEVEL")
@setting_flag("log_format", "--log-format", type=click.Choice(["console", "json"]))
@click.option("--no-web", is_flag=True, help="Keep the history, serve no page.")
@click.option("--parent-pid", type=int, hidden=True)
@pass_state
def monitor(state: CliState, no_web: bool, parent_pid: int | None) -> int:
    """Watch a cluster; needs a broker URL and none of your code."""
    if parent_pid is not None:
        die_with(parent_pid)
    brokers = named(state.overrides.get("broker_url"))  # type: ignore[arg-type]  # as the option stored it
    if not brokers:
        return run_monitor(state.load_settings(), web=not no_web)
    del state.overrides["broker_url"]
    return run_monitor(settings_by_name(state.load_settings(), brokers), web=not no_web)
