"""``--autoscale`` of ``opsq worker`` and ``opsq up``, and the step that it hands to the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from opsq.autoscale.configured import limits_of, rule_of
from opsq.autoscale.gauge import gauge_reader
from opsq.cli.state import CliState, setting_flag
from opsq.core.worker.scaler_step import ScalerStep
from opsq.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")


def autoscale_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command ``--autoscale``, as Celery has it, and ``--autoscale-wait``."""
    bounds = click.option(
        "--autoscale", metavar="MAX[,MIN]", expose_value=False, callback=_set_bounds,
        help="Have as many slots as the load asks for, within these; alone, MIN is 0.",
    )  # fmt: skip
    wait = setting_flag("autoscale_wait", "--autoscale-wait", metavar="SECONDS")
    return bounds(wait(command))


def _set_bounds(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    words = value.split(",")
    if not 1 <= len(words) <= 2 or not all(word.strip().isdecimal() for word in words):
        raise click.BadParameter(f"expected MAX or MAX,MIN, such as 16,2; got {value!r}", ctx=ctx, param=param)
    fewest, most = sorted((int(words[0]), int(words[1]) if len(words) == 2 else 0))
    if most < 1:
        raise click.BadParameter("at least one slot must be allowed", ctx=ctx, param=param)
    ctx.ensure_object(CliState).overrides.update(autoscale_max_slots=most, autoscale_min_slots=fewest)


def let_scale(app: Any, settings: Settings) -> int | None:
    """Add the step that scales the worker, where that is wanted; the slots to begin with, else None.

    Raises: ConfigError for settings that no policy can obey.
    """
    if settings.autoscale_max_slots is None:
        return None
    fewest, most = settings.autoscale_min_slots, settings.autoscale_max_slots
    limits = limits_of(settings, fewest=fewest, most=most)
    dry = settings.autoscale_mode == "dry"
    app.steps["worker"].add(ScalerStep(rule_of(settings), limits, gauge_reader(settings), dry=dry))
    return None if dry else max(1, fewest)
