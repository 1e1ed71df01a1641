"""What the monitor scales: groups of workers by the queues they serve, from the setting ``autoscale_groups``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from opsq.autoscale.configured import limits_of
from opsq.autoscale.presets import Limits
from opsq.errors import ConfigError, Fault
from opsq.settings import Settings

ORIGIN: Final = "autoscale_groups"


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One group. queues: what its workers take from. min, max: slots of the whole group.

    target: ``fleet`` changes the workers' pools by remote control, ``kubernetes`` the replicas of ``scales``, ``none``
    nothing. scales: ``deployment/NAME``, ``statefulset/NAME``, with ``NAMESPACE/`` before it when it is not the
    monitor's own. slots_per_replica: of one replica. startup: seconds until a new replica, or slot, takes work.
    """

    queues: tuple[str, ...]
    min: int = 1
    max: int = 64
    target: str = "none"
    scales: str = ""
    slots_per_replica: int = 1
    startup: float | None = None


def groups_of(settings: Settings) -> dict[str, Group]:
    """The groups by name. Raises: ConfigError naming every one that cannot be."""
    found: dict[str, Group] = {}
    faults: list[Fault] = []
    for name, told in settings.autoscale_groups.items():
        try:
            found[name] = _checked(msgspec.convert(told, Group, strict=False))
        except (msgspec.ValidationError, ValueError) as error:
            faults.append(Fault(f"group {name}: {error}", ORIGIN))
    if faults:
        raise ConfigError(faults)
    return found


def _checked(group: Group) -> Group:
    if not group.queues:
        raise ValueError("expected at least one queue")
    if not 0 <= group.min <= group.max or group.max < 1 or group.slots_per_replica < 1:
        raise ValueError(f"expected 0 ≤ min ≤ max and slots_per_replica ≥ 1, got {group.min}, {group.max}")
    if group.target not in ("none", "fleet", "kubernetes"):
        raise ValueError(f"target: expected none, fleet or kubernetes, got {group.target!r}")
    if group.target == "kubernetes" and not group.scales:
        raise ValueError("scales: expected deployment/NAME or statefulset/NAME")
    return group


def limits_for(group: Group, settings: Settings) -> Limits:
    """The limits that its decisions obey. Raises: ConfigError."""
    replicas = group.target == "kubernetes" or group.slots_per_replica > 1
    startup_s = group.startup if group.startup is not None else 45.0 if replicas else 1.0
    unit = group.slots_per_replica if replicas else 1
    return limits_of(settings, fewest=-(-group.min // unit) * unit, most=group.max, unit=unit, startup_s=startup_s)


def shared_queues(groups: Mapping[str, Group]) -> list[str]:
    """Queues that several groups name: each would scale for the whole of them."""
    seen: dict[str, int] = {}
    for group in groups.values():
        for queue in group.queues:
            seen[queue] = seen.get(queue, 0) + 1
    return sorted(queue for queue, count in seen.items() if count > 1)
