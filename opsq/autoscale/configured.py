"""From settings to what a policy needs: its limits, and the rule itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from opsq import plugins
from opsq.autoscale.presets import Connections, Limits, Preset, QueueTarget, preset
from opsq.autoscale.rules import RULES, Decide
from opsq.errors import ConfigError, Fault, UsageError
from opsq.settings import Settings

CONNECTION_WORDS: Final = frozenset({"limit", "per_slot", "reserve"})


def limits_of(settings: Settings, *, fewest: int, most: int, unit: int = 1, startup_s: float = 1.0) -> Limits:
    """The limits of a group that may have ``fewest`` to ``most`` slots. Raises: ConfigError."""
    return Limits(
        fewest=fewest, most=most, unit=unit, startup_s=startup_s, tick_s=settings.autoscale_interval,
        slo_s=settings.autoscale_wait, targets=_targets(settings.autoscale_waits), preset=_preset(settings),
        connections=_connections(settings.autoscale_connections), slot_hours_a_day=settings.autoscale_slot_hours,
    )  # fmt: skip


def rule_of(settings: Settings) -> Decide:
    """The policy that decides. Raises: ConfigError for a name that is neither a policy nor a function."""
    name = settings.autoscale_policy
    if name in RULES:
        return RULES[name].decide
    if ":" not in name:
        known = ", ".join(RULES)
        raise ConfigError(
            [Fault(f"there is no policy {name!r}", "autoscale_policy", f"use {known} or module:function")]
        )
    found = plugins.resolve(name, origin="autoscale_policy")
    if not callable(found):
        raise ConfigError([Fault(f"{name} cannot be called", "autoscale_policy", "name a function like policy.decide")])
    return cast("Decide", found)


def _preset(settings: Settings) -> Preset:
    try:
        kind = preset(settings.autoscale_preset)
    except UsageError as error:
        raise ConfigError([Fault(str(error), "autoscale_preset")]) from error
    hold_s = settings.autoscale_keepalive
    return kind if hold_s is None else msgspec.structs.replace(kind, hold_s=hold_s, replica_hold_s=hold_s)


def _targets(waits: Mapping[str, object]) -> dict[str, QueueTarget]:
    wrong = [name for name, wait in waits.items() if not _is_positive(wait)]
    if wrong:
        raise ConfigError([Fault(f"expected seconds above 0 for {', '.join(wrong)}", "autoscale_waits")])
    return {name: QueueTarget(slo_s=float(cast("float", wait))) for name, wait in waits.items()}


def _connections(told: Mapping[str, object]) -> Connections | None:
    if not told:
        return None
    try:
        if not set(told) <= CONNECTION_WORDS:
            raise ValueError(f"expected {', '.join(sorted(CONNECTION_WORDS))}, got {', '.join(sorted(told))}")
        return msgspec.convert(dict(told), Connections, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError([Fault(str(error), "autoscale_connections")]) from error


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
