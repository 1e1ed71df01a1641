"""``--autoscale`` of ``opsq worker`` and ``opsq up``, and the step that it hands to the worker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

import click

from opsq.autoscale.configured import limits_of, rule_of
from opsq.autoscale.gauge import gauge_reader
from opsq.cli.state import CliState, setting_flag
from opsq.core.schedules.crontab import crontab
from opsq.core.worker.scaler_step import ScalerStep
from opsq.errors import ConfigError, Fault
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
    floor = scheduled_floor(settings, app)
    app.steps["worker"].add(ScalerStep(rule_of(settings), limits, gauge_reader(settings), floor=floor, dry=dry))
    return None if dry else max(1, fewest)


def scheduled_floor(settings: Settings, app: Any) -> Callable[[float], int]:
    """Fewest slots at an epoch second, by ``autoscale_schedule``; 0 outside of it. Raises: ConfigError."""
    windows: list[tuple[crontab, int]] = []
    for text, slots in settings.autoscale_schedule.items():
        try:
            windows.append((crontab.from_string(text, app=app), int(str(slots))))
        except ValueError as error:
            raise ConfigError([Fault(f"{text!r}: {error}", "autoscale_schedule")]) from error
    return lambda at: max((slots for window, slots in windows if _covers(window, at)), default=0)


def _covers(window: crontab, at: float) -> bool:
    moment = datetime.fromtimestamp(at, window.tz)
    return (
        moment.minute in window.minute
        and moment.hour in window.hour
        and moment.isoweekday() % 7 in window.day_of_week
        and moment.day in window.day_of_month
        and moment.month in window.month_of_year
    )
