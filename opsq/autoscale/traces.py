"""Loads to compare policies on: lists of arrivals with the time each task needs, the same for the same seed.

Source of the statistics: Azure Functions 2019 ("Serverless in the Wild", ATC 2020) for the log-normal run times and the
mix of functions; Azure LLM Inference 2023 for the two recorded ones (``data/README.md``).
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.resources import files
from typing import Final

import msgspec

from opsq.errors import UsageError

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
#: Run times of functions in seconds: median 0.68, cut at five minutes.
WILD: Final = (-0.38, 2.36, 300.0)


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks of one queue. arrivals: sorted seconds. service: seconds each needs a slot for, alone on its core.

    slo_s, replica_slo_s: own wait target of a pool and of replicas; None takes the group's. failed: indexes of tasks
    that fail. retried: indexes of tasks that are retries.
    """

    name: str = "celery"
    arrivals: list[float]
    service: list[float]
    slo_s: float | None = None
    replica_slo_s: float | None = None
    failed: frozenset[int] = frozenset()
    retried: frozenset[int] = frozenset()


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A load of ``seconds``. Lanes are in the order of their priority.

    cpu_share, cores: tasks compete for cores (None: they do not). child_bytes, parent_bytes, memory_limit: memory of
    a pool. hidden: (from, to) while broker statistics are missing; dark: while every signal is. schedule: times at
    which a schedule entry sends tasks.
    """

    name: str
    seconds: float
    lanes: tuple[Lane, ...]
    cpu_share: float = 0.0
    cores: float | None = None
    child_bytes: float = 0.0
    parent_bytes: float = 0.0
    memory_limit: float | None = None
    hidden: tuple[float, float] | None = None
    dark: tuple[float, float] | None = None
    schedule: tuple[float, ...] = ()

    @property
    def tasks(self) -> int:
        """How many arrive."""
        return sum(len(lane.arrivals) for lane in self.lanes)

    @property
    def work_s(self) -> float:
        """Slot-seconds of pure work."""
        return sum(sum(lane.service) for lane in self.lanes)


Rate = Callable[[float], float]
Draw = Callable[[], float]


def poisson(dice: random.Random, rate: Rate, highest: float, seconds: float) -> Iterator[float]:
    """Arrivals at ``rate(t)`` a second, by thinning those at ``highest``."""
    at = 0.0
    while (at := at + dice.expovariate(highest)) < seconds:
        if highest * dice.random() < rate(at):
            yield at


def _simple(name: str, seed: int, rate: Rate, highest: float, mean_s: float, seconds: float = HOUR_S) -> Trace:
    dice = random.Random(f"{name}:{seed}")
    arrivals = list(poisson(dice, rate, highest, seconds))
    service = [dice.expovariate(1 / mean_s) for _ in arrivals]
    return Trace(name=name, seconds=seconds, lanes=(Lane(arrivals=arrivals, service=service),))


def _lognormal(dice: random.Random, mu: float, sigma: float, cut: float) -> float:
    return min(cut, dice.lognormvariate(mu, sigma))


def _step_rate(at: float) -> float:
    return 20.0 if 600 <= at < 1800 else 2.0


def _ramp_rate(at: float) -> float:
    return 2 + 38 * (1 - abs(at - 1800) / 1800)


def _wave(at: float, period_s: float) -> float:
    return 10 * (1 + 0.9 * math.sin(2 * math.pi * at / period_s - math.pi / 2))


def steady(seed: int) -> Trace:
    """10 tasks a second, always."""
    return _simple("steady", seed, lambda at: 10.0, 10.0, 0.5)


def step(seed: int) -> Trace:
    """Ten times the load for twenty minutes."""
    return _simple("step", seed, _step_rate, 20.0, 0.5)


def ramp(seed: int) -> Trace:
    """2 to 40 tasks a second in half an hour, and back."""
    return _simple("ramp", seed, _ramp_rate, 40.0, 0.5)


def burst(seed: int) -> Trace:
    """One task a second, and 500 within two seconds every ten minutes."""
    quiet = _simple("burst", seed, lambda at: 1.0, 1.0, 0.5)
    dice = random.Random(f"bursts:{seed}")
    extra = [start + 2 * dice.random() for start in range(600, 3600, 600) for _ in range(500)]
    return _with(quiet, extra, lambda: dice.expovariate(2.0))


def _with(trace: Trace, extra: list[float], draw: Draw) -> Trace:
    lane = trace.lanes[0]
    tasks = sorted([*zip(lane.arrivals, lane.service, strict=True), *((at, draw()) for at in extra)])
    merged = Lane(name=lane.name, arrivals=[at for at, _ in tasks], service=[need for _, need in tasks])
    return msgspec.structs.replace(trace, lanes=(merged, *trace.lanes[1:]))


def diurnal(seed: int) -> Trace:
    """A day's wave within the hour: mean 10 tasks a second, ± 90 %."""
    return _simple("diurnal", seed, partial(_wave, period_s=HOUR_S), 19.0, 0.5)


def day(seed: int) -> Trace:
    """The same wave over a whole day."""
    return _simple("day", seed, partial(_wave, period_s=DAY_S), 19.0, 0.5, DAY_S)


def on_off(seed: int) -> Trace:
    """A minute at 30 tasks a second, two minutes of nothing."""
    return _simple("on_off", seed, lambda at: 30.0 if at % 180 < 60 else 0.0, 30.0, 0.3)


def heavy_tail(seed: int) -> Trace:
    """One task a second; most take under a second, some take minutes."""
    dice = random.Random(f"heavy_tail:{seed}")
    arrivals = list(poisson(dice, lambda at: 1.0, 1.0, HOUR_S))
    service = [_lognormal(dice, *WILD) for _ in arrivals]
    return Trace(name="heavy_tail", seconds=HOUR_S, lanes=(Lane(arrivals=arrivals, service=service),))


def slow_consumer(seed: int) -> Trace:
    """Six tasks a second that take five times as long for ten minutes."""
    trace = _simple("slow_consumer", seed, lambda at: 6.0, 6.0, 0.5)
    lane = trace.lanes[0]
    service = [need * 5 if 1200 <= at < 1800 else need for at, need in zip(lane.arrivals, lane.service, strict=True)]
    return msgspec.structs.replace(trace, lanes=(msgspec.structs.replace(lane, service=service),))


def poison(seed: int) -> Trace:
    """Five tasks a second; from 900 s one of twenty fails at once and is tried three times more."""
    return _failing("poison", seed, lambda at, dice: at >= 900 and dice.random() < 0.05)


def dependency(seed: int) -> Trace:
    """Five tasks a second that all fail at once for five minutes, each tried three times more."""
    return _failing("dependency", seed, lambda at, dice: 900 <= at < 1200)


def _failing(name: str, seed: int, fails: Callable[[float, random.Random], bool]) -> Trace:
    dice = random.Random(f"{name}:{seed}")
    tasks: list[tuple[float, float, bool, bool]] = []
    for at in poisson(dice, lambda at: 5.0, 5.0, HOUR_S):
        bad = fails(at, dice)
        for tries in range(4):
            again = at + 5 * tries
            # A poisoned message fails at every try; a missing dependency only while it is away.
            failed = bad and (name == "poison" or fails(again, dice))
            tasks.append((again, 0.01 if failed else dice.expovariate(1 / 0.3), failed, tries > 0))
            if not failed:
                break
    tasks = sorted(task for task in tasks if task[0] < HOUR_S)
    lane = Lane(
        arrivals=[task[0] for task in tasks],
        service=[task[1] for task in tasks],
        failed=frozenset(number for number, task in enumerate(tasks) if task[2]),
        retried=frozenset(number for number, task in enumerate(tasks) if task[3]),
    )
    return Trace(name=name, seconds=HOUR_S, lanes=(lane,))


def two_priorities(seed: int) -> Trace:
    """Four urgent tasks a second, and 2,000 patient ones every quarter of an hour."""
    dice = random.Random(f"two_priorities:{seed}")
    urgent = list(poisson(dice, lambda at: 4.0, 4.0, HOUR_S))
    patient = sorted(start + dice.random() for start in (300, 1200, 2100, 3000) for _ in range(2000))
    lanes = (
        Lane(
            name="urgent", arrivals=urgent, service=[dice.expovariate(5.0) for _ in urgent],
            slo_s=2.0, replica_slo_s=24.0,
        ),
        Lane(
            name="patient", arrivals=patient, service=[dice.expovariate(1.0) for _ in patient],
            slo_s=300.0, replica_slo_s=300.0,
        ),
    )  # fmt: skip
    return Trace(name="two_priorities", seconds=HOUR_S, lanes=lanes)


def cpu_bound(seed: int) -> Trace:
    """1, then 30 tasks a second of pure CPU time, on two cores."""
    trace = _simple("cpu_bound", seed, lambda at: 30.0 if 600 <= at < 1800 else 1.0, 30.0, 0.05)
    return msgspec.structs.replace(trace, cpu_share=1.0, cores=2.0)


def memory(seed: int) -> Trace:
    """The step, where each child takes 150 MB of 1 GB: less than the load needs."""
    trace = _simple("memory", seed, _step_rate, 20.0, 0.5)
    return msgspec.structs.replace(trace, cores=64.0, child_bytes=150e6, parent_bytes=50e6, memory_limit=1e9)


def fan_out(seed: int) -> Trace:
    """A thousand tasks at once every five minutes, sent by a schedule."""
    dice = random.Random(f"fan_out:{seed}")
    schedule = tuple(150.0 + 300 * number for number in range(12))
    arrivals = sorted(at + 0.1 * dice.random() for at in schedule for _ in range(1000))
    service = [_lognormal(dice, -0.38, 1.4, 300.0) for _ in arrivals]
    lane = Lane(arrivals=arrivals, service=service)
    return Trace(name="fan_out", seconds=HOUR_S, lanes=(lane,), schedule=schedule)


def blind(seed: int) -> Trace:
    """The step, where broker statistics are missing for two minutes as it begins."""
    return msgspec.structs.replace(step(seed), name="blind", hidden=(595.0, 715.0))


def restart(seed: int) -> Trace:
    """The step, where the broker is away for twenty seconds in its middle: nothing arrives, nothing is seen."""
    trace = step(seed)
    lane = trace.lanes[0]
    start, end = 1200.0, 1220.0
    held = [end + (at - start) / 10 if start <= at < end else at for at in lane.arrivals]
    tasks = sorted(zip(held, lane.service, strict=True))
    lane = Lane(arrivals=[at for at, _ in tasks], service=[need for _, need in tasks])
    return msgspec.structs.replace(trace, name="restart", lanes=(lane,), dark=(start, end))


def functions(seed: int) -> Trace:
    """Two hundred functions as in Azure's statistics: a few make most calls; timers, bursts and web traffic."""
    dice = random.Random(f"functions:{seed}")
    tasks: list[tuple[float, float]] = []
    weights = [1 / rank**1.6 for rank in range(1, 201)]
    total = sum(weights)
    for weight in weights:
        rate = 6.0 * weight / total
        median = min(10.0, dice.lognormvariate(-0.38, 1.0))
        kind = dice.choices(("web", "queue", "timer"), (62, 36, 2))[0]
        for at in _calls(dice, kind, rate):
            tasks.append((at, min(60.0, median * dice.lognormvariate(0, 0.6))))
    tasks.sort()
    lane = Lane(arrivals=[at for at, _ in tasks], service=[need for _, need in tasks])
    return Trace(name="functions", seconds=HOUR_S, lanes=(lane,))


def _calls(dice: random.Random, kind: str, rate: float) -> Iterator[float]:
    if kind == "timer":
        at = dice.random() / rate
        while at < HOUR_S:
            yield at
            at += 1 / rate
    elif kind == "web":
        yield from poisson(dice, lambda at: rate * (1 + 0.15 * math.sin(at / 600)), rate * 1.15, HOUR_S)
    else:
        # On a fifth of the time: variation of the gaps between 3 and 6.
        at = 0.0
        while at < HOUR_S:
            off, on = dice.expovariate(1 / 80), dice.expovariate(1 / 20)
            yield from (
                at + off + more for more in poisson(dice, lambda at: 5 * rate, 5 * rate, on) if at + off + more < HOUR_S
            )
            at += off + on


def _azure(name: str, per_token_s: float, seed: int) -> Trace:
    """Real arrivals; ``seed`` moves the beginning, since a record has no other dice."""
    packed = (files("opsq.autoscale") / "data" / f"azure-llm-2023-{name}.csv.gz").read_bytes()
    rows = list(csv.reader(io.StringIO(gzip.decompress(packed).decode())))[1:]
    length = math.ceil(float(rows[-1][0])) + 1.0
    shift = 0.0 if seed <= 1 else length * random.Random(seed).random()
    tasks = sorted(((float(at) + shift) % length, 0.2 + per_token_s * int(tokens)) for at, tokens in rows)
    lane = Lane(arrivals=[at for at, _ in tasks], service=[need for _, need in tasks])
    return Trace(name=f"azure_{name}", seconds=length, lanes=(lane,))


TRACES: Final[Mapping[str, Callable[[int], Trace]]] = {
    "steady": steady,
    "step": step,
    "ramp": ramp,
    "burst": burst,
    "diurnal": diurnal,
    "on_off": on_off,
    "heavy_tail": heavy_tail,
    "slow_consumer": slow_consumer,
    "poison": poison,
    "dependency": dependency,
    "two_priorities": two_priorities,
    "cpu_bound": cpu_bound,
    "memory": memory,
    "fan_out": fan_out,
    "blind": blind,
    "restart": restart,
    "functions": functions,
    "azure_code": partial(_azure, "code", 0.02),
    "azure_conv": partial(_azure, "conv", 0.005),
    "day": day,
}


def build(name: str, seed: int = 1) -> Trace:
    """Make a named trace. Raises: UsageError naming those there are."""
    maker = TRACES.get(name)
    if maker is None:
        raise UsageError(f"there is no trace {name!r}; there are {', '.join(TRACES)}")
    return maker(seed)
