"""Probes tell the truth: what only a new start mends, and what keeps the pages from being now."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from msgspec import structs

from opsq.events.query import Query
from opsq.events.writer import StoreStatus, Writer
from opsq.web.health import MOST_LAG_S, lacks, recent_lag_s
from tests.web.conftest import client
from tests.web.test_access import PASSWORD, Site, basic
from tests.web.world import Source, World, night

FAILING = StoreStatus(failing_since_at=1.0, error="history in /srv/secret/history.db cannot be written: disk full")


def test_a_monitor_that_is_well_is_ready(world: World) -> None:
    answer = client(world)("/readyz")
    assert (answer.status_code, answer.json()["status"], answer.json()["missing"]) == (200, "ready", [])
    assert client(world)("/healthz").json() == {"status": "live"}


def test_what_is_missing_is_named_in_the_order_of_its_weight() -> None:
    world = night(minutes=1)
    fresh, strip = world.query.freshness(), world.query.strip()
    assert not list(lacks(fresh, strip))
    broken = structs.replace(
        fresh, connected=False, stale_reason="refused", store_failing_since_at=1.0, store_error="full"
    )
    behind = structs.replace(strip, lag_spark=(*strip.lag_spark[:-2], MOST_LAG_S + 12, 0.1))
    assert [what for what, _ in lacks(broken, behind)] == [
        "the broker is not heard", "history is not kept", f"events run {MOST_LAG_S + 12:.0f} s behind",
    ]  # fmt: skip
    # What was slow and is not any more is forgotten within twenty seconds.
    assert recent_lag_s(structs.replace(strip, lag_spark=(99.0, 0.2, 0.1))) == 0.2


@pytest.mark.parametrize("late_s", [1.0, MOST_LAG_S + 20])
def test_events_that_come_late_are_not_ready(late_s: float) -> None:
    """Through the fold: what a worker stamped long ago arrives now, after others came at once."""
    world = night(minutes=1)
    for n in range(15):
        world.tell("task-received", "img-1", world.clock.now() - late_s, f"late-{n}", name="shop.late")
        world.step(1.0)
    answer = client(world)("/readyz")
    assert answer.status_code == (200 if late_s < MOST_LAG_S else 503), answer.text
    assert client(world)("/healthz").status_code == 200


def test_why_is_told_to_those_who_may_read(tmp_path: Path) -> None:
    world = World()
    world.query = Query(world.store, world.cluster, stream=world.stream, writer=lambda: FAILING, clock=world.clock)
    site = Site(world, tmp_path / "none.json", admin_password=PASSWORD)
    stranger, admin = site.ask("/readyz"), site.ask("/readyz", headers=basic("admin"))
    assert stranger.status_code == admin.status_code == 503
    assert stranger.json()["missing"] == ["history is not kept"]
    assert "/srv/secret" in admin.json()["missing"][0]


def test_a_dead_writer_asks_for_a_new_start() -> None:
    world = World()
    writer = Writer(Source(), world.cluster, world.store, world.feed)
    world.query = Query(world.store, world.cluster, stream=world.stream, folding=writer.alive)
    assert client(world)("/healthz").status_code == 200  # not started yet is not dead
    writer.start()
    assert client(world)("/healthz").status_code == 200
    writer.stop()
    answer = client(world)("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (503, "dead")
    assert "opsq-writer" not in [thread.name for thread in threading.enumerate()]


def test_probes_do_not_need_the_accounts(tmp_path: Path) -> None:
    """A broken file lets nobody in; a restart would not mend it."""
    path = tmp_path / "users.json"
    site = Site(World(), path)
    path.write_text("{")
    assert site.ask("/healthz").status_code == 200
    assert site.ask("/", headers=basic("admin")).status_code == 503
