"""Since when a task type runs longer, and what was deployed then: the cause behind slots that are all busy. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from opsq.events.records import Point

#: Runs on either side of the moment; fewer say nothing.
LEAST_RUNS: Final = 5
#: So many times as long is worth saying.
LEAST_FACTOR: Final = 2.0
#: A deploy so near the moment is taken to be its cause; the same bucket, or the one beside it.
NEAR_S: Final = 120.0


class Slower(Struct, frozen=True, kw_only=True):
    """A type that changed its pace. before_s, after_s: mean run time. usual_s: p95 before. deploy: label of code."""

    type: str
    before_s: float
    after_s: float
    usual_s: float
    since_at: float
    runs: int
    deploy: str = ""

    @property
    def factor(self) -> float:
        """How many times as long it runs."""
        return self.after_s / self.before_s


def slower(type: str, points: Sequence[Point], deploys: Iterable[tuple[float, str]]) -> Slower | None:
    """Find the moment that parts short runs from long ones best; None when the type kept its pace.

    points: its history, oldest first. deploys: (when, label) of the workers that run it. The best parting is the one
    that leaves least variance of the logarithm of the mean within both sides. Source: binary segmentation (Scott and
    Knott, Biometrics 1974), one step of it.
    """
    known = [(point, point.run_s / point.done) for point in points if point.done and point.run_s > 0]
    best: tuple[float, int] = (0.0, 0)
    for at in range(1, len(known)):
        before, after = known[:at], known[at:]
        if min(_runs(before), _runs(after)) >= LEAST_RUNS:
            apart = (_log_mean(after) - _log_mean(before)) ** 2 * _runs(before) * _runs(after)
            best = max(best, (apart, at))
    if not best[1]:
        return None
    before, after = known[: best[1]], known[best[1] :]
    found = Slower(
        type=type, before_s=_mean(before), after_s=_mean(after), usual_s=_usual(before),
        since_at=after[0][0].at, runs=_runs(after), deploy=_near(after[0][0].at, deploys),
    )  # fmt: skip
    return found if found.factor >= LEAST_FACTOR else None


_Known = Sequence[tuple[Point, float]]


def _runs(known: _Known) -> int:
    return sum(point.done for point, _ in known)


def _mean(known: _Known) -> float:
    return sum(point.run_s for point, _ in known) / max(1, _runs(known))


def _usual(known: _Known) -> float:
    """The p95 as a rule: the median of those of the buckets, else the mean."""
    told = sorted(found.p95 for point, _ in known if (found := point.latency.get("run")) is not None)
    return told[len(told) // 2] if told else _mean(known)


def _log_mean(known: _Known) -> float:
    return sum(math.log(mean_s) * point.done for point, mean_s in known) / max(1, _runs(known))


def _near(at: float, deploys: Iterable[tuple[float, str]]) -> str:
    near = [(abs(when - at), label) for when, label in deploys if label and abs(when - at) <= NEAR_S]
    return min(near)[1] if near else ""
