"""The other autoscalers as policies of the same shape, and what every policy is to the simulator.

Source: Celery 5.6 ``worker/autoscale.py``; Kubernetes HPA algorithm with KEDA's queue-length scalers; Judoscale's
published range rule; AWS's target tracking on backlog per instance. Each is written from its documented behaviour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from opsq.autoscale import policy
from opsq.autoscale.decision import Bound, Decision, History
from opsq.autoscale.observation import Observation
from opsq.autoscale.presets import Limits
from opsq.errors import UsageError

Decide = Callable[[Observation, History, Limits], Decision]

HPA_SYNC_S = 15.0
HPA_DOWN_S = 300.0
HPA_TOLERANCE = 0.1
HPA_PODS = 4


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A policy by name. tick_s: seconds between its decisions, None the group's own tick.

    reads: where its numbers come from: ``events`` of workers, ``broker`` statistics or the worker's ``local`` state.
    on_arrival: it decides when messages have come, and else every ``tick_s``. on_burst: it decides at once when a
    burst comes, in a pool, where the worker itself sees it come.
    """

    name: str
    decide: Decide
    tick_s: float | None = None
    reads: str = "events"
    on_arrival: bool = False
    on_burst: bool = False
    preset: str = "balanced"


def _answer(seen: Observation, limits: Limits, slots: float, history: History, text: str) -> Decision:
    unit = max(1, limits.unit)
    target = min(max(math.ceil(slots / unit) * unit, limits.fewest), limits.most)
    bound = Bound("rule", "need", target, "{}", (text,))
    return Decision(
        at=seen.at, have=seen.have, target=target, want=target, mode="live", bounds=(bound,), winner="rule",
        history=history,
    )  # fmt: skip


def _waiting(seen: Observation) -> float:
    return sum(queue.depth or 0.0 for queue in seen.queues)


def _stale(seen: Observation, limits: Limits) -> bool:
    return seen.age_s > limits.blind_ticks * limits.tick_s


def celery(seen: Observation, history: History, limits: Limits) -> Decision:
    """One process per message held; smaller only 30 s after the last growth."""
    held = _waiting(seen) + seen.running
    unit = max(1, limits.unit)
    most = min(math.ceil(held / unit) * unit, limits.most)
    slots = seen.have
    if most > seen.have:
        slots, history = most, msgspec.structs.replace(history, grown_at=seen.at)
    elif history.grown_at is not None and seen.at - history.grown_at > 30.0:
        slots = min(seen.have, max(most, limits.fewest))
    return _answer(seen, limits, slots, history, f"{held:.0f} messages are held")


def _hpa(seen: Observation, history: History, limits: Limits, load: float, per_pod: float) -> Decision:
    """Kubernetes' rule with an average-value target and its default behaviour."""
    unit = max(1, limits.unit)
    pods = max(1, seen.have // unit)
    ratio = load / (per_pod * pods)
    desired = pods if abs(ratio - 1) <= HPA_TOLERANCE else math.ceil(load / per_pod)
    wants = (*(one for one in history.wants if seen.at - one[0] < HPA_DOWN_S), (seen.at, desired))
    lasting = max(pods_wanted for _, pods_wanted in wants)
    lasting = min(desired, max(2 * pods, pods + HPA_PODS)) if desired > pods else min(pods, lasting)
    history = msgspec.structs.replace(history, wants=wants)
    return _answer(seen, limits, lasting * unit, history, f"{load:.0f} at {per_pod:g} per replica")


def keda(seen: Observation, history: History, limits: Limits) -> Decision:
    """Messages that wait, five per replica: the scaler's default."""
    if _stale(seen, limits):
        return _answer(seen, limits, seen.have, history, "the metric cannot be read")
    return _hpa(seen, history, limits, _waiting(seen), 5.0)


def keda_tuned(seen: Observation, history: History, limits: Limits) -> Decision:
    """Messages that wait or run, one per slot."""
    if _stale(seen, limits):
        return _answer(seen, limits, seen.have, history, "the metric cannot be read")
    return _hpa(seen, history, limits, _waiting(seen) + seen.running, float(limits.unit))


def judoscale(seen: Observation, history: History, limits: Limits) -> Decision:
    """One up when the oldest message is older than the target, one down after ten minutes of less than half of it."""
    if _stale(seen, limits):
        return _answer(seen, limits, seen.have, history, "no report")
    part = max(
        ((queue.ages[0] if queue.ages else 0.0) / limits.target(queue.name).slo_s for queue in seen.queues), default=0
    )
    unit = max(1, limits.unit)
    low = history.idle_since if part < 0.5 else None
    low = seen.at if low is None and part < 0.5 else low
    slots = seen.have
    if part > 1:
        slots += unit
    elif low is not None and seen.at - low >= 600.0:
        slots, low = slots - unit, seen.at
    history = msgspec.structs.replace(history, idle_since=low)
    return _answer(seen, limits, slots, history, f"the oldest waits {part:.0%} of its target")


def aws(seen: Observation, history: History, limits: Limits) -> Decision:
    """Backlog per instance against target time over a mean task time that was typed in once."""
    if _stale(seen, limits):
        return _answer(seen, limits, seen.have, history, "no data point")
    typed_in_s = limits.prior_service_s
    unit = max(1, limits.unit)
    acceptable = limits.slo_s / typed_in_s * unit
    have = max(1, seen.have // unit)
    load = _waiting(seen) / (acceptable * have)
    low = history.waste + 1 if load < 0.9 else 0.0
    slots = seen.have
    if load > 1:
        slots = math.ceil(have * load) * unit
    elif low >= 15:
        slots, low = max(1, math.ceil(have * load)) * unit, 0.0
    history = msgspec.structs.replace(history, waste=low)
    return _answer(seen, limits, slots, history, f"{load:.0%} of the backlog that is accepted per instance")


def fixed(slots: int) -> Rule:
    """A size that never changes."""

    def decide(seen: Observation, history: History, limits: Limits) -> Decision:
        return _answer(seen, limits, slots, history, "fixed")

    return Rule(name=f"fixed {slots}", decide=decide, tick_s=math.inf)


RULES: Final[Mapping[str, Rule]] = {
    one.name: one
    for one in (
        Rule(name="opsq", decide=policy.decide, on_burst=True),
        Rule(name="opsq_lean", decide=policy.decide, on_burst=True, preset="lean"),
        Rule(name="opsq_snappy", decide=policy.decide, on_burst=True, preset="snappy"),
        Rule(name="celery", decide=celery, tick_s=30.0, reads="local", on_arrival=True),
        Rule(name="keda", decide=keda, tick_s=HPA_SYNC_S, reads="broker"),
        Rule(name="keda_tuned", decide=keda_tuned, tick_s=HPA_SYNC_S, reads="broker"),
        Rule(name="judoscale", decide=judoscale, tick_s=10.0, reads="broker"),
        Rule(name="aws", decide=aws, tick_s=60.0, reads="broker"),
    )
}


def rule(name: str) -> Rule:
    """Find a policy; ``fixed:N`` is one too. Raises: UsageError naming those there are."""
    if name.startswith("fixed:") and name[6:].isdecimal():
        return fixed(int(name[6:]))
    found = RULES.get(name)
    if found is None:
        raise UsageError(f"there is no policy {name!r}; there are {', '.join(RULES)} and fixed:N")
    return found
