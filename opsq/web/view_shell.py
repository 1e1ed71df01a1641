"""What surrounds every page: navigation, the status strip, banners, the foot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from opsq.events.records import Freshness, Overview, Strip
from opsq.web import charts, words
from opsq.web.faces import LIMITS
from opsq.web.view_common import Ask, Link, Places

SPARK_WIDTH: Final = 52
INDEX_BEHIND_S: Final = 120.0
"""A search index that is behind for longer is spoken of on every page."""

NAVIGATION: Final = (
    ("overview", "Overview", "/", "o"),
    ("tasks", "Tasks", "/tasks", "t"),
    ("errors", "Errors", "/errors", "e"),
    ("workflows", "Workflows", "/workflows", "f"),
    ("queues", "Queues", "/queues", "q"),
    ("workers", "Workers", "/workers", "w"),
    ("types", "Task types", "/types", "y"),
    ("schedules", "Schedules", "/schedules", "s"),
    ("autoscale", "Autoscale", "/autoscale", "u"),
    ("audit", "Audit", "/audit", "u"),
)
SECTIONS: Final[Mapping[str, str]] = MappingProxyType({
    "task": "tasks", "error": "errors", "workflow": "workflows", "queue": "queues", "worker": "workers",
    "type": "types", "quarantine": "queues", "schedule": "schedules", "why": "tasks",
})  # fmt: skip
"""Pages about one thing, by the entry of the navigation that they belong to."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the seven figures. value: (number, unit) pairs; the units are set in small type."""

    id: str
    label: str
    href: str
    value: tuple[tuple[str, str], ...]
    note: str
    spark: charts.Trace | None = None
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Banner:
    """A strip of words above the page: the fact, then what it means."""

    strong: str
    rest: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """What the shell says about this monitor. env: its name. broker: URL without a password."""

    env: str
    broker: str
    version: str


@dataclass(frozen=True, slots=True)
class Shell:
    """Everything around the content. live: URL of the stream, empty on a page that does not move."""

    title: str
    env: str
    broker: str
    version: str
    base: str
    home: str
    search: str
    nav: tuple[Link, ...]
    tiles: tuple[Tile, ...]
    banners: tuple[Banner, ...]
    live: str = ""
    history: str = ""
    theme: str = ""
    density: str = ""
    visitor: str = ""
    sign_out: str = ""


def shell(
    title: str, overview: Overview | None, ask: Ask, here: Place, places: Places, *, live: str, now: float
) -> Shell:
    """Build the surroundings of a page; without an overview (an error page) there are no figures."""
    return Shell(
        title=title,
        env=here.env,
        broker=here.broker,
        version=here.version,
        base=places.prefix + "/",
        home=places.to("/"),
        search=places.to("/tasks"),
        nav=navigation(ask.page, places, ask.visitor.grants),
        tiles=tiles(overview.strip, places) if overview else (),
        banners=banners(overview.freshness, here.broker, now) if overview else (),
        history=f"{words.plural(overview.tasks_kept, 'task')} kept" if overview else "",
        live=live,
        theme=ask.theme,
        density=ask.density,
        visitor=ask.visitor.name if ask.visitor.how != "open" else "",
        sign_out=places.to("/sign-out") if ask.visitor.how == "session" else "",
    )


def navigation(current: str, places: Places, grants: frozenset[str]) -> tuple[Link, ...]:
    """Link the pages that the visitor may see; a task's page belongs to Tasks."""
    at = SECTIONS.get(current, current)
    return tuple(
        Link(label, places.to(path), name == at, key)
        for name, label, path, key in NAVIGATION
        if name != "audit" or name in grants
    )


def banners(fresh: Freshness, broker: str, now: float) -> tuple[Banner, ...]:
    """Say what makes the numbers old or unsafe, if anything does."""
    found = []
    if not fresh.connected:
        since = fresh.stale_since_at
        reason = f" {fresh.stale_reason.rstrip('.')}." if fresh.stale_reason else ""
        old = f"since {words.clock_seconds(since)} UTC, {words.duration(now - since)}" if since else "yet"
        found.append(
            Banner(
                f"The broker cannot be heard {old}.",
                f"{broker}:{reason} The monitor keeps trying; everything below is as it was.",
                bad=True,
            )
        )
    if fresh.store_failing_since_at is not None:
        found.append(
            Banner(
                f"History is not being kept since {words.clock_seconds(fresh.store_failing_since_at)} UTC.",
                f"{fresh.store_error.rstrip('.')}. Live numbers go on; what happens now may be missing from history.",
                bad=True,
            )
        )
    if fresh.index_lag_s > INDEX_BEHIND_S:
        found.append(
            Banner(
                f"The search index is {words.duration(fresh.index_lag_s)} behind.",
                "More tasks end than can be indexed beside them. Searches look at the newest ones one by one: they are "
                "slower and may stop early, and then they say so.",
                bad=False,
            )
        )
    return tuple(found)


def tiles(strip: Strip, places: Places) -> tuple[Tile, ...]:
    """Build the seven figures, always in the same order."""
    return (
        _running(strip, places),
        _waiting(strip, places),
        _oldest(strip, places),
        Tile(
            "rate", "Rate", places.to("/tasks"), (words.rate_parts(strip.done_per_s),),
            f"{words.rate(strip.arrived_per_s)} arrive", _spark(strip.done_spark),
        ),
        _failed(strip, places),
        _lag(strip, places),
        _lost(strip, places),
    )  # fmt: skip


def _spark(values: tuple[float, ...]) -> charts.Trace | None:
    return charts.spark(values, width=SPARK_WIDTH) if len(values) > 1 else None


def _running(strip: Strip, places: Places) -> Tile:
    of = f"of {words.count(strip.slots)}" if strip.slots is not None else ""
    note = "slots unknown" if strip.slots is None else "no slot is up"
    if strip.slots:
        note = f"{words.percent(strip.running / strip.slots)} of slots busy"
    value = ((words.count(strip.running), of),)
    return Tile("running", "Running", places.search(state="running"), value, note, _spark(strip.running_spark))


def _waiting(strip: Strip, places: Places) -> Tile:
    note = "depth of no queue is known" if strip.waiting is None else "no task waits"
    if strip.waiting:
        note = f"most in {strip.waiting_most_in}" if strip.waiting_most_in else "in all queues"
    value = ((words.count(strip.waiting), ""),)
    return Tile("waiting", "Waiting", places.search(state="waiting"), value, note, _spark(strip.waiting_spark))


def _oldest(strip: Strip, places: Places) -> Tile:
    target = f"target {words.duration(LIMITS.oldest_s)}"
    waits = strip.oldest_wait_s
    if waits is None:
        value: tuple[tuple[str, str], ...] = ((words.NOT_APPLICABLE if strip.waiting == 0 else words.UNKNOWN, ""),)
        return Tile("oldest", "Oldest wait", places.to("/queues"), value, target)
    note = f"{strip.oldest_in}, {target}" if strip.oldest_in else target
    bad = waits > LIMITS.oldest_s
    return Tile(
        "oldest", "Oldest wait", places.to("/queues"), tuple(words.duration_parts(waits)), note,
        _spark(strip.oldest_spark), bad,
    )  # fmt: skip


def _failed(strip: Strip, places: Places) -> Tile:
    value = (words.percent_parts(strip.failed_share),) if strip.finished else (("0", ""),)
    note = f"{words.count(strip.failed)} of {words.count(strip.finished)} in 5 min"
    spark = _spark(strip.failed_spark)
    return Tile("failed", "Failed", places.search(state="failed"), value, note, spark, too_many_fail(strip))


def too_many_fail(strip: Strip) -> bool:
    """Tell whether failures are trouble: more than the limit, and not just one of two."""
    share = strip.failed_share or 0.0
    return strip.failed >= LIMITS.failed_least and share > LIMITS.failed_share


def _lag(strip: Strip, places: Places) -> Tile:
    lag = strip.event_lag_s
    value = tuple(words.duration_parts(lag)) if lag is not None else ((words.UNKNOWN, ""),)
    bad = lag is not None and lag > LIMITS.lag_s
    return Tile("lag", "Event lag", places.to("/workers"), value, "p95 of 5 min", _spark(strip.lag_spark), bad)


def _lost(strip: Strip, places: Places) -> Tile:
    unknown = strip.lost_unknown_emitters
    note = f"{words.plural(unknown, 'sender')} unknown" if unknown else "no number is missing"
    return Tile(
        "lost", "Lost events", places.to("/workers"), ((words.count(strip.lost_events), ""),), note,
        bad=bool(strip.lost_events),
    )  # fmt: skip
