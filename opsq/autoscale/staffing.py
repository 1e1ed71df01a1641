"""How many slots a load needs: Erlang's delay formula, and deadlines of what already waits.

Source: A. K. Erlang 1917 (recursion for B, C from it); Allen and Cunneen's scaling of the tail for general
arrivals and services; earliest-deadline-first feasibility for the backlog.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

#: One outlier may not double a pool: variation of arrivals and of service counts up to here.
MAX_DISPERSION = 16.0
MAX_VARIATION = 25.0


def late_chance(slots: int, load: float, decay: float) -> float:
    """Chance that a task waits too long with ``slots``; decay: the exponent per slot above the load."""
    if load <= 0:
        return 0.0
    if slots <= load:
        return 1.0
    blocked = 1.0
    for count in range(1, slots + 1):
        blocked = load * blocked / (count + load * blocked)
    waits = blocked / (1.0 - (load / slots) * (1.0 - blocked))
    return waits * math.exp(-(slots - load) * decay)


def steady_slots(load: float, decay: float, eps_grow: float, eps_keep: float) -> tuple[int, int]:
    """Fewest slots whose late chance is ≤ ``eps_grow``, and ≤ ``eps_keep`` (the larger of the two).

    load: busy slots on average. decay: ``2·T / ((c_a² + c_s²)·E[S])``.
    """
    if load <= 0:
        return 0, 0
    # The recursion for 1/B is the shorter one; for next to no load it is infinite, and B is 0.
    inverse, count, grow = 1.0, int(load), 0
    for busy in range(1, count + 1):
        inverse = inverse * busy / load + 1.0
    while True:
        count += 1
        inverse = inverse * count / load + 1.0
        blocked = 1.0 / inverse
        waits = blocked / (1.0 - (load / count) * (1.0 - blocked))
        late = waits * math.exp(-(count - load) * decay)
        if not grow and late <= eps_grow:
            grow = count
        if late <= eps_keep:
            return grow or count, count


def drain_slots(pieces: Iterable[tuple[float, float]], ready: int, startup_s: float, least_s: float) -> float:
    """Fewest slots that start all waiting work before its deadline.

    pieces: (seconds left, slot-seconds of work), any order. ready: slots that work meanwhile, until more have started
    after ``startup_s``. least_s: time that is allowed for where too little or none is left.
    """
    need = work = 0.0
    for left_s, seconds in sorted(pieces):
        work += seconds
        slots = work / (left_s if left_s > least_s else least_s)
        if slots > ready:
            # What is ready works while the rest starts; only what is left over needs more.
            slots = max(ready, (work - ready * startup_s) / max(left_s - startup_s, least_s))
        if slots > need:
            need = slots
    return need
