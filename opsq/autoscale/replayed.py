"""Sizes that were, as a policy: the simulator then says what waiting they meant for a load."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from opsq.autoscale.decision import Bound, Decision, History
from opsq.autoscale.observation import Observation
from opsq.autoscale.presets import Limits
from opsq.autoscale.rules import Rule
from opsq.events.decisions import DecisionItem

TICK_S = 1.0


def replayed(decisions: Sequence[DecisionItem], began_at: float) -> Rule:
    """A rule that has at each moment the slots that ``decisions`` left; began_at: epoch seconds of the load's start."""
    ordered = sorted(decisions, key=lambda one: one.at)
    times = [one.at - began_at for one in ordered]

    def decide(seen: Observation, history: History, limits: Limits) -> Decision:
        place = max(0, bisect_right(times, seen.at) - 1)
        slots = max(1, ordered[place].slots) if ordered else seen.have
        bound = Bound("rule", "need", slots, "as it was")
        return Decision(
            at=seen.at, have=seen.have, target=slots, want=slots, mode="live", bounds=(bound,), winner="rule",
            history=history,
        )  # fmt: skip

    return Rule(name="as it was", decide=decide, tick_s=TICK_S)
