"""``opsq worker``: parse, build the worker, run it."""

from __future__ import annotations

import click

from opsq import plugins
from opsq.cli.processes import die_with
from opsq.cli.relaunch import patch_for
from opsq.cli.state import CliState, app_options, pass_state, setting_flag
from opsq.core.worker.worker import Worker

EXAMPLES = """\b
Examples:
  opsq worker -A shop.tasks                    as many slots as there are CPUs
  opsq worker -A shop.tasks -P threads -c 20   twenty threads
  opsq worker -A shop.tasks -Q mail,images     only these queues
  opsq worker -A shop.tasks --explain          what is started, in which order
"""


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


@click.command(epilog=EXAMPLES)
@app_options
@click.option("-Q", "--queues", metavar="NAMES", callback=_names, help="Queues to take from, by comma.")
@click.option("-X", "--exclude-queues", metavar="NAMES", callback=_names, help="Queues to leave out, by comma.")
@click.option("-I", "--include", metavar="MODULES", callback=_names, help="Modules to import too, by comma.")
@click.option("-n", "--hostname", metavar="NAME", help="Node name; %h host, %n name, %d domain.  [opsq@%h]")
@setting_flag("worker_pool", "-P", "--pool", metavar="POOL")
@setting_flag("worker_concurrency", "-c", "--concurrency", metavar="SLOTS")
@setting_flag("worker_prefetch_multiplier", "--prefetch-multiplier", metavar="N")
@setting_flag("task_time_limit", "--time-limit", metavar="SECONDS")
@setting_flag("task_soft_time_limit", "--soft-time-limit", metavar="SECONDS")
@setting_flag("worker_max_tasks_per_child", "--max-tasks-per-child", metavar="N")
@setting_flag("worker_max_memory_per_child", "--max-memory-per-child", metavar="KIB")
@setting_flag("worker_shutdown_timeout", "--shutdown-timeout", metavar="SECONDS")
@setting_flag("log_level", "-l", "--loglevel", metavar="LEVEL")
@setting_flag("log_format", "--log-format", type=click.Choice(["console", "json"]))
@click.option("-E", "--task-events/--no-task-events", default=None, help="Send task events (on by default).")
@click.option("--purge", is_flag=True, help="Delete all waiting messages of its queues first.")
@click.option("--explain", is_flag=True, help="Print what would be started, in order, and exit.")
@click.option("--parent-pid", type=int, hidden=True)
@pass_state
def worker(
    state: CliState,
    queues: tuple[str, ...],
    exclude_queues: tuple[str, ...],
    include: tuple[str, ...],
    hostname: str | None,
    task_events: bool | None,
    **flags: bool | int | None,
) -> int:
    """Start a worker: take tasks from queues and run them."""
    patch_for(state.overrides.get("worker_pool"), state)
    parent = flags["parent_pid"]
    if parent is not None:
        die_with(int(parent))
    if task_events is not None:
        state.overrides["worker_send_task_events"] = task_events
    app = state.load_app(needed_by="worker")
    patch_for(app.conf.load().settings.worker_pool, state)  # said by a file, the environment or the app
    for module in include:
        plugins.import_module(module)
    built = Worker(app, queues=queues, exclude_queues=exclude_queues, hostname=hostname)
    if flags["explain"]:
        click.echo(built.explain())
        return 0
    if flags["purge"]:
        built.purge()
    return built.run()
