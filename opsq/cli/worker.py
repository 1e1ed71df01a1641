"""``opsq worker``: parse, build the worker, run it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from opsq import plugins
from opsq.cli.autoreload import generations, reload_options
from opsq.cli.celery_words import WorkerCommand, flag_value
from opsq.cli.detach import Background, become, detach_options, in_background, start_again
from opsq.cli.relaunch import patch_for, patched_early
from opsq.cli.scaling import autoscale_options, let_scale
from opsq.cli.state import CliState, app_options, pass_state, setting_flag
from opsq.core.beat.step import BeatStep
from opsq.core.worker.worker import Worker

EXAMPLES = """\b
Examples:
  opsq worker -A shop.tasks                    as many slots as there are CPUs
  opsq worker -A shop.tasks -P threads -c 20   twenty threads
  opsq worker -A shop.tasks -Q mail,images     only these queues
  opsq worker -A shop.tasks --autoscale=16,2   two to sixteen slots, as the load asks for
  opsq worker -A shop.tasks --explain          what is started, in which order
  opsq worker -A shop.tasks -D --pidfile w.pid in the background; stop it with kill -TERM

Signals, exit codes and files: docs/worker.md.
"""


P = ParamSpec("P")
R = TypeVar("R")


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


def _switch(name: str, value: object, *flags: str, help: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a flag that gives the setting ``name`` one value."""
    return click.option(*flags, is_flag=True, expose_value=False, callback=flag_value(name, value), help=help)


@click.command(cls=WorkerCommand, epilog=EXAMPLES)
@app_options
@click.option("-Q", "--queues", metavar="NAMES", callback=_names, help="Queues to take from, by comma.")
@click.option("-X", "--exclude-queues", metavar="NAMES", callback=_names, help="Queues to leave out, by comma.")
@click.option("-I", "--include", metavar="MODULES", callback=_names, help="Modules to import too, by comma.")
@click.option("-n", "--hostname", metavar="NAME", help="Node name; %h host, %n name, %d domain.  [opsq@%h]")
@setting_flag("worker_pool", "-P", "--pool", metavar="POOL")
@setting_flag("worker_concurrency", "-c", "--concurrency", metavar="SLOTS")
@autoscale_options
@setting_flag("worker_prefetch_multiplier", "--prefetch-multiplier", metavar="N")
@_switch("worker_disable_prefetch", True, "--disable-prefetch", help="Take a message only when a slot is free.")
@click.option("-O", "optimization", type=click.Choice(["default", "fair"]), help="As in Celery: both are fair here.")
@setting_flag("task_time_limit", "--time-limit", metavar="SECONDS")
@setting_flag("task_soft_time_limit", "--soft-time-limit", metavar="SECONDS")
@setting_flag("worker_max_tasks_per_child", "--max-tasks-per-child", metavar="N")
@setting_flag("worker_max_memory_per_child", "--max-memory-per-child", metavar="KIB")
@setting_flag("worker_pool_start_method", "--pool-start-method", type=click.Choice(["fork", "spawn"]))
@setting_flag("worker_shutdown_timeout", "--shutdown-timeout", metavar="SECONDS")
@setting_flag("worker_health_port", "--health-port", metavar="PORT")
@setting_flag("worker_state_db", "-S", "--statedb", metavar="FILE")
@setting_flag("log_level", "-l", "--loglevel", metavar="LEVEL")
@setting_flag("log_format", "--log-format", type=click.Choice(["console", "json"]))
@setting_flag("worker_logfile", "-f", "--logfile", metavar="FILE")
@setting_flag("worker_pidfile", "--pidfile", metavar="FILE")
@detach_options("worker")
@click.option("-E", "--task-events/--no-task-events", default=None, help="Send task events (on by default).")
@setting_flag("worker_heartbeat_interval", "--heartbeat-interval", metavar="SECONDS")
@_switch("worker_heartbeat_interval", 0, "--without-heartbeat", help="Send no heartbeats; the monitor shows no load.")
@_switch("worker_mingle", False, "--without-mingle", help="Do not ask other workers for revoked ids at start.")
@_switch("worker_gossip", False, "--without-gossip", help="Do not answer elections; opsq starts none anyway.")
@click.option("-B", "--beat", is_flag=True, help="Also send what the schedule says, as `opsq beat` does.")
@setting_flag("beat_schedule_filename", "-s", "--schedule", metavar="FILE")
@setting_flag("beat_scheduler", "--scheduler", metavar="CLASS")
@click.option("--purge", is_flag=True, help="Delete all waiting messages of its queues first.")
@click.option("--explain", is_flag=True, help="Print what would be started, in order, and exit.")
@click.option("--parent-pid", type=int, hidden=True)
@reload_options
@pass_state
@patched_early
@in_background("worker")
@generations
def worker(
    state: CliState,
    queues: tuple[str, ...],
    exclude_queues: tuple[str, ...],
    include: tuple[str, ...],
    hostname: str | None,
    background: Background | None,
    **flags: Any,
) -> int:
    """Start a worker: take tasks from queues and run them."""
    if flags["task_events"] is not None:
        state.overrides["worker_send_task_events"] = flags["task_events"]
    app = state.load_app(needed_by="worker")
    settings = app.conf.load().settings
    # Said by a file, the environment or the app.
    patch_for(settings.worker_pool, state, background.words if background is not None else tuple)
    become(settings, "worker")
    for module in include:
        plugins.import_module(module)
    if flags["beat"]:
        app.steps["worker"].add(BeatStep)
    slots = let_scale(app, settings)
    built = Worker(app, concurrency=slots, queues=queues, exclude_queues=exclude_queues, hostname=hostname)
    if flags["explain"]:
        click.echo(built.explain())
        return 0
    if flags["purge"]:
        built.purge()
    code = built.run(background.started if background is not None else None)
    if built.restart_wanted:
        start_again(state, detached=background is not None)
    return code
