"""The night's decisions about slots: three groups, made by the policy itself from what the night looked like.

``reports`` is held back by memory since its tasks became slow, ``images`` follows its load, ``mail`` is a dry run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from opsq.autoscale.decision import History
from opsq.autoscale.observation import Machine, Observation, QueueView
from opsq.autoscale.policy import decide
from opsq.autoscale.presets import PRESETS, Limits
from opsq.autoscale.record import held_back, record_of

GB = 1e9
HOSTS = {"reports": "reports-1", "images": "img-1", "mail": "mail-1"}


class Nightly:
    """One group through the night; every look gives at most one event. dry: ``has`` stays as it is."""

    def __init__(self, name: str, limits: Limits, machine: Machine, has: int, *, dry: bool = False) -> None:
        self.name, self.limits, self.machine, self.has, self.dry = name, limits, machine, has, dry
        self.target = has
        self.history = History()
        self.told_at = 0.0
        self.told: tuple[str, str | None] | None = None
        self.spent = 0.0

    def look(self, now: float, queue: QueueView) -> dict[str, Any] | None:
        """Decide at ``now`` (epoch seconds); the fields of the event, if there is one."""
        have = self.target
        busy = min(have, round((queue.rate or 0) * (queue.service_s or 0) + (queue.depth or 0)))
        machine = msgspec.structs.replace(self.machine, memory_used=GB + have * (self.machine.child_bytes or 0))
        seen = Observation(
            at=now, have=have, running=busy, queues=(queue,), machine=machine, spent=self.spent, age_s=0.4
        )  # fmt: skip
        decision = decide(seen, self.history, self.limits)
        self.history, self.target = decision.history, decision.target
        self.has = self.has if self.dry else self.target
        self.spent += self.has / 3600
        kept = held_back(decision)
        if decision.target == have and now - self.told_at < 60 and kept == self.told:
            return None
        self.told_at, self.told = now, kept
        record = record_of(self.name, seen, decision, self.limits, applied=self.has, dry=self.dry)
        return {**record, "queues": [queue.name]}


def groups() -> dict[str, Nightly]:
    """The three groups, as the night begins."""
    room = Machine(cpu_share=0.3, cores=8.0, cpu_busy=0.4, memory_limit=16 * GB, child_bytes=0.2 * GB, parent_bytes=GB)
    tight = msgspec.structs.replace(room, memory_limit=12.5 * GB, child_bytes=1.09 * GB)
    return {
        "reports": Nightly("reports", Limits(fewest=2, most=32, slo_s=60.0), tight, 4),
        "images": Nightly("images", Limits(fewest=4, most=24, slo_s=10.0), room, 8),
        "mail": Nightly("mail", Limits(fewest=2, most=16, slo_s=10.0, preset=PRESETS["lean"]), room, 10, dry=True),
    }


def decisions(
    known: dict[str, Nightly], now: float, pick: random.Random, behind: int, trouble_s: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Who announces what in one second. behind: tasks that wait in reports; trouble_s: since when, 0 for not."""
    slow = trouble_s > 0
    wave = 1.0 + 0.4 * ((now % 1500) / 1500)
    age_s = min(trouble_s, 480.0)
    loads = {
        "reports": QueueView(
            name="reports", depth=float(behind), ages=(age_s, age_s * 0.7, age_s * 0.4, 1.0) if behind else (),
            rate=0.86 + 0.1 * pick.random(), service_s=18.4 if slow else 2.6, service_cv2=0.6,
        ),
        "images": QueueView(
            name="images", depth=float(pick.randint(0, 9)), ages=(0.4,), rate=18.0 * wave, service_s=0.39
        ),
        "mail": QueueView(name="mail", depth=float(pick.randint(0, 3)), ages=(0.1,), rate=9.5, service_s=0.22),
    }  # fmt: skip
    for name, load in loads.items():
        fields = known[name].look(now, load)
        if fields is not None:
            yield HOSTS[name], fields
