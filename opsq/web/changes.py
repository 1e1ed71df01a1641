"""What changed and when: deploys, scaling, remote control, as marks on every chart and as a list. Pure.

A deploy is seen where workers that serve the same queues begin to run code with another label (``task_version``).
Without labels there is only the start of workers to see, which is said as that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from opsq.events.decisions import DecisionItem
from opsq.events.views import LifeEntry
from opsq.web import words
from opsq.web.audit import Entry
from opsq.web.charts_data import Plot

DEPLOY: Final = "deploy"
SCALE: Final = "scale"
CONTROL: Final = "control"
#: Workers that start within this time of each other started together.
TOGETHER_S: Final = 600.0
#: The same order carried out by several workers within this time was given once.
ONE_ORDER_S: Final = 10.0
#: What starts before this was already running when the monitor began to watch.
SETTLED_S: Final = 120.0
LEAST_APART: Final = 14.0
LONGEST_LABEL: Final = 32
_LONGEST: Final = 60
_LONGEST_SMALL: Final = 90
_ORDERS: Final[Mapping[str, tuple[str, str]]] = {
    "pool_grow": (SCALE, "pool grown"), "pool_shrink": (SCALE, "pool shrunk"), "autoscale": (SCALE, "autoscale range"),
    "rate_limit": (CONTROL, "rate limit"), "time_limit": (CONTROL, "time limit"),
    "add_consumer": (CONTROL, "takes from a queue"), "cancel_consumer": (CONTROL, "left a queue"),
    "pause": (CONTROL, "paused"), "resume": (CONTROL, "resumed"), "revoke": (CONTROL, "revoked"),
    "pool_restart": (CONTROL, "pool restarted"), "shutdown": (CONTROL, "told to shut down"),
    "log_level": (CONTROL, "log level"),
}  # fmt: skip
_NAMED: Final = re.compile(r"'(\w+)': ")
_ACTS_OF_SCALE: Final = frozenset({"worker-grow", "worker-shrink", "worker-autoscale"})
_ACTS_UNSEEN: Final = frozenset({"sign-in", "sign-out", "queue-peek"})


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed. kind: its glyph. strong: what; text: where; small: more. major: a line with a flag.

    version: of a deploy, the label that runs since.
    """

    at: float
    kind: str
    strong: str
    text: str = ""
    small: str = ""
    major: bool = False
    version: str = ""

    @property
    def said(self) -> str:
        """All of it but the detail, on one line."""
        return f"{self.strong} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a worker's past. queues: that it serves now."""

    name: str
    queues: tuple[str, ...]
    entries: Sequence[LifeEntry]


def changes(lives: Sequence[Life], acts: Iterable[Entry], began_at: float) -> tuple[Change, ...]:
    """List what changed, newest first. acts: of the audit, as far as the reader may see it. began_at: of watching."""
    acted = [_act(entry) for entry in acts if entry.outcome == "done" and entry.act not in _ACTS_UNSEEN]
    settled = began_at + SETTLED_S
    found = [*_deploys(lives), *_starts(lives, settled), *_orders(lives, acted), *acted]
    return tuple(sorted(found, key=lambda change: (-change.at, change.said)))


def _deploys(lives: Sequence[Life]) -> list[Change]:
    """A label that differs from the one before it among workers of the same queues; of all such queues at once."""
    told = [(entry.at, entry.detail, life) for life, entry in _entries(lives, "version")]
    told.sort(key=lambda each: (each[0], each[1], each[2].name))
    running: dict[tuple[str, ...], str] = {}
    moved: list[tuple[float, str, Life]] = []
    for at, version, life in told:
        if running.get(life.queues, version) != version:
            moved.append((at, version, life))
        running[life.queues] = version
    # Those that follow take the label that their group runs already, so they are no change of it: count them by label.
    return [_deploy(group, told) for group in _together(moved)]


def _deploy(first: Sequence[tuple[float, str, Life]], told: Sequence[tuple[float, str, Life]]) -> Change:
    at, version = first[0][0], first[0][1]
    with_it = [life for when, label, life in told if label == version and at <= when < at + TOGETHER_S]
    queues = sorted({queue for life in with_it for queue in life.queues})
    to = f"to {_listed(queues)}" if queues else ""
    started = words.plural(len({life.name for life in with_it}), "worker")
    return Change(at, DEPLOY, f"deploy {version[:_LONGEST]}", to, f"{started} run it", True, version)


def _together(moved: Sequence[tuple[float, str, Life]]) -> list[list[tuple[float, str, Life]]]:
    groups: list[list[tuple[float, str, Life]]] = []
    for each in moved:
        near = next((g for g in groups if g[0][1] == each[1] and each[0] - g[0][0] < TOGETHER_S), None)
        if near is None:
            groups.append([each])
        else:
            near.append(each)
    return groups


def _starts(lives: Sequence[Life], settled: float) -> list[Change]:
    """Starts of workers that tell no label, those that came together as one."""
    unlabelled = [life for life in lives if not any(entry.what == "version" for entry in life.entries)]
    times = sorted(
        (entry.at, life.name)
        for life, entry in _entries(unlabelled, "started", "restarted")
        if entry.at > settled
    )  # fmt: skip
    groups: list[list[tuple[float, str]]] = [times[:1]] if times else []
    for before, after in pairwise(times):
        if after[0] - before[0] < TOGETHER_S:
            groups[-1].append(after)
        else:
            groups.append([after])
    return [Change(group[0][0], DEPLOY, _count({name for _, name in group}), "started") for group in groups]


def _orders(lives: Sequence[Life], acted: Sequence[Change]) -> list[Change]:
    """Remote commands that workers carried out, but for those of an act that is listed by itself."""
    given: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for life, entry in _entries(lives, "command"):
        name, _, rest = entry.detail.partition(" ")
        if not any(-2.0 < entry.at - act.at < ONE_ORDER_S for act in acted):
            given.setdefault((name, _plain(rest)), []).append((entry.at, life.name))
    found = []
    for (name, arguments), times in given.items():
        times.sort()
        while times:
            at = times[0][0]
            workers = {worker for when, worker in times if when < at + ONE_ORDER_S}
            times = [each for each in times if each[0] >= at + ONE_ORDER_S]
            kind, said = _ORDERS.get(name, (CONTROL, name.replace("_", " ")))
            found.append(Change(at, kind, said, f"on {_count(workers)}", arguments))
    return found


def decision(made: DecisionItem) -> Change:
    """A decision of an autoscaler; one that only would have is said as that."""
    to, would = (made.slots, "") if made.mode == "live" else (made.target, "would go ")
    moved = f"{would}{made.have} → {to} slots"
    why = made.text.partition(": ")[2] or made.text
    return Change(made.at, SCALE, made.group[:_LONGEST], moved, words.cut(why, _LONGEST_SMALL))


def _plain(arguments: str) -> str:
    """Write the repr of an order's arguments for people: ``{'n': 2} {'ok': …}`` gives ``n 2``. Display only."""
    text = _NAMED.sub(r"\1 ", arguments.partition("}")[0]).replace("'", "").strip("{ ")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _act(entry: Entry) -> Change:
    of, _, verb = entry.act.partition("-")
    target = words.short_id(entry.target) if of == "task" else words.short_host(entry.target)
    who = f"by {entry.who}" if entry.who else ""
    kind = SCALE if entry.act in _ACTS_OF_SCALE else CONTROL
    small = words.cut(f"{who} {entry.message}".strip(), _LONGEST_SMALL)
    return Change(entry.at, kind, f"{of} {verb.replace('-', ' ')}", target[:_LONGEST], small)


def _entries(lives: Sequence[Life], *kinds: str) -> Iterable[tuple[Life, LifeEntry]]:
    return ((life, entry) for life in lives for entry in life.entries if entry.what in kinds)


def _count(names: Iterable[str]) -> str:
    known = sorted(set(names))
    return words.short_host(known[0]) if len(known) == 1 else words.plural(len(known), "worker")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


@dataclass(frozen=True, slots=True)
class Mark:
    """A change on a chart. x: percent of its time axis. label: shown by its line, or on hover. left: of the line."""

    x: float
    kind: str
    label: str
    clock: str
    flag: bool
    left: bool

    @property
    def width(self) -> int:
        """Room that the label takes, in pixels, wide rather than narrow."""
        return 12 + round(6.7 * len(self.label))


def marks(plot: Plot | None, known: Sequence[Change]) -> tuple[Mark, ...]:
    """Place changes on a chart's time axis; labels that would touch the one before them show on hover alone."""
    if plot is None:
        return ()
    found: list[Mark] = []
    last_flag = -LEAST_APART
    for change in sorted(known, key=lambda each: each.at):
        x = plot.percent(change.at)
        if x is None:
            continue
        flag = change.major and x - last_flag >= LEAST_APART
        last_flag = x if flag else last_flag
        label = words.cut(change.strong if change.major else change.said, LONGEST_LABEL)
        found.append(Mark(x, change.kind, label, words.clock(change.at), flag, x > 66.0))
    return tuple(found)
