"""What a user chooses: a preset, the bounds of a group, and the wait target of each queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from opsq.errors import UsageError


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """How eager a policy is.

    patience: share of the wait target that is planned with. eps_grow, eps_keep: chance of a late task above
    which slots are added, and up to which they are kept; between the two lies the dead band. hold_s, replica_hold_s:
    seconds in which the need must stay low. idle_price: slot-seconds of idle slots that one
    change of size is worth; a slot that is not needed goes when it has wasted that much. fast: trust a rise of the last
    quarter minute that chance does not explain.
    """

    name: str
    patience: float = 0.8
    eps_grow: float = 0.05
    eps_keep: float = 0.01
    hold_s: float = 5.0
    replica_hold_s: float = 30.0
    idle_price: float = 30.0
    replica_price: float = 120.0
    fast: bool = True


#: ``lean`` waits until load has come, ``snappy`` keeps room for it; see ``docs/autoscale.md`` for what each costs.
PRESETS: Final[Mapping[str, Preset]] = {
    one.name: one
    for one in (
        Preset(name="lean", eps_grow=0.5, eps_keep=0.2, idle_price=10.0, replica_price=60.0),
        Preset(name="balanced"),
        Preset(
            name="snappy", patience=0.5, eps_grow=0.01, eps_keep=0.002, hold_s=15.0, replica_hold_s=60.0,
            idle_price=90.0, replica_price=360.0,
        ),
    )
}  # fmt: skip


class QueueTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Wait target of a queue: work starts within ``slo_s``. weight: its share when a cap decides."""

    slo_s: float
    weight: float = 1.0


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """A server that takes ``limit`` connections: ``reserve`` are left alone, each slot needs ``per_slot``."""

    limit: int
    per_slot: int = 1
    reserve: int = 0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one scaling group.

    fewest, most: slots. unit: slots of one replica, 1 for a pool. startup_s: until a new slot takes work.
    tick_s: between decisions. zero_after_s: idle seconds before the last slot goes, where ``fewest`` is 0.
    slot_hours_a_day: cost cap. blind_ticks: age of signals, in ticks, that stops acting. flap_window_s, flap_turns:
    more turns than that in the window double the hold. knee_s, oom_hold_s: how long a lesson is remembered. settle_s:
    after a growth, until its effect is judged. prior_service_s: run time of tasks of which none has ended.
    short_window_s: over which an observation's ``rate_now`` was counted.
    """

    fewest: int = 1
    most: int = 64
    unit: int = 1
    startup_s: float = 1.0
    tick_s: float = 1.0
    slo_s: float = 5.0
    targets: Mapping[str, QueueTarget] = {}
    preset: Preset = PRESETS["balanced"]
    connections: Connections | None = None
    slot_hours_a_day: float | None = None
    zero_after_s: float = 300.0
    blind_ticks: float = 3.0
    flap_window_s: float = 600.0
    flap_turns: int = 6
    knee_s: float = 300.0
    oom_hold_s: float = 600.0
    settle_s: float = 10.0
    prior_service_s: float = 1.0
    short_window_s: float = 15.0

    def target(self, queue: str) -> QueueTarget:
        """Wait target of ``queue``."""
        return self.targets.get(queue) or QueueTarget(slo_s=self.slo_s)

    @property
    def span(self) -> tuple[int, int]:
        """Lowest and highest size, in slots of whole units."""
        fewest, most, unit = self.fewest, max(self.most, 0), self.unit
        if unit > 1:
            fewest, most = -(-fewest // unit) * unit, most // unit * unit
        return (fewest, most) if fewest <= most else (most, most)


def preset(name: str) -> Preset:
    """Find a preset. Raises: UsageError naming those there are."""
    found = PRESETS.get(name)
    if found is None:
        raise UsageError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return found


def stretched(limits: Limits, factor: float) -> Limits:
    """Return the same limits where every second is ``factor`` seconds: a slower world, decided alike."""
    kind = limits.preset
    slower = msgspec.structs.replace(
        kind,
        hold_s=kind.hold_s * factor,
        replica_hold_s=kind.replica_hold_s * factor,
        idle_price=kind.idle_price * factor,
        replica_price=kind.replica_price * factor,
    )
    times = (
        "startup_s",
        "tick_s",
        "slo_s",
        "zero_after_s",
        "flap_window_s",
        "knee_s",
        "oom_hold_s",
        "settle_s",
        "short_window_s",
    )
    scaled = {name: getattr(limits, name) * factor for name in (*times, "prior_service_s")}
    targets = {name: msgspec.structs.replace(one, slo_s=one.slo_s * factor) for name, one in limits.targets.items()}
    cap = limits.slot_hours_a_day
    return msgspec.structs.replace(
        limits, preset=slower, targets=targets, slot_hours_a_day=None if cap is None else cap * factor, **scaled
    )
