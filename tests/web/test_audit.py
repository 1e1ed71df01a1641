"""The audit: chained, checked, exported; refusals and failures are in it, private values are not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from opsq.clock import ManualClock
from opsq.events.store import MemoryStore
from opsq.events.stores import open_store
from opsq.web.access import accounts
from opsq.web.access.accounts import Accounts, User
from opsq.web.access.permissions import ROLES
from opsq.web.audit import Entry, Trail, check, digest, link_of
from opsq.web.export import cell, csv_lines
from tests.web.test_access import KEPT, SAME, Site, basic
from tests.web.world import World


def entry(target: str = "mail") -> Entry:
    return Entry(at=0.0, who="anna", how="session", source="10.0.0.7", act="queue-purge", target=target, outcome="done")


@pytest.fixture(params=["memory", "sqlite"])
def trail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trail]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/history.db"
    store = open_store(url)
    yield Trail(store, ManualClock(1_800_000_000.0))
    store.close()


def test_entries_are_chained(trail: Trail) -> None:
    kept = [trail.note(entry(str(n))) for n in range(5)]
    assert [one.seq for one in kept] == [1, 2, 3, 4, 5]
    assert [one.prev for one in kept] == ["", *(one.hash for one in kept[:-1])]
    assert all(one.hash == digest(msgspec.json.encode(one)) for one in kept)
    found = trail.check()
    assert (found.entries, found.complete, found.broken) == (5, True, ())
    assert [one.entry.target for one in trail.page(limit=2)] == ["4", "3"]
    assert trail.recent(kept[2].hash) == kept[2]


@pytest.mark.parametrize("harm", ["changed", "appended", "taken", "unreadable", "inserted"])
def test_whoever_lays_hands_on_it_is_seen(harm: str) -> None:
    store, clock = MemoryStore(), ManualClock(1_800_000_000.0)
    trail = Trail(store, clock)
    kept = [trail.note(entry(str(n))) for n in range(5)]
    records = [msgspec.json.encode(one) for one in kept]
    if harm == "changed":
        records[2] = records[2].replace(b'"anna"', b'"otto"')
    elif harm == "appended":
        records[2] = records[2][:-1] + b',"who":"otto"}'
    elif harm == "taken":
        del records[2]
    elif harm == "unreadable":
        records[2] = b"\xff"
    else:
        forged = msgspec.structs.replace(kept[2], who="otto", hash="")
        records[2] = msgspec.json.encode(msgspec.structs.replace(forged, hash=digest(msgspec.json.encode(forged))))
    newest_first = [link_of(id, record) for id, record in reversed(list(enumerate(records, 1)))]
    assert check(newest_first, complete=True).broken


def test_a_new_process_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    store, clock = MemoryStore(), ManualClock(1_800_000_000.0)
    first = Trail(store, clock).note(entry())
    second = Trail(store, clock).note(entry())
    assert second.prev == first.hash
    assert second.chain != first.chain
    assert not Trail(store, clock).check().broken


def test_refusals_are_written_down_and_private_values_are_not(world: World, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    accounts.write(path, Accounts({role: User(role, KEPT) for role in ROLES}))
    site = Site(world, path)
    refused = site.ask(
        "/api/v1/queues/mail/purge", "POST", headers={**SAME, **basic("viewer")}, json={"confirm": "mail"}
    )
    assert refused.status_code == 403
    done = world.query.tasks(limit=1).items[0].id
    site.ask(f"/api/v1/tasks/{done}/resend", "POST", headers={**SAME, **basic("operator")}, json={"args": ["hunter2"]})
    assert site.ask("/audit", headers=basic("viewer")).status_code == 403
    page = site.ask("/audit?check=all", headers=basic("operator"))
    assert page.status_code == 200
    assert "nothing was changed" in page.text
    newest, older = (kept["entry"] for kept in site.ask("/api/v1/audit", headers=basic("admin")).json()["entries"][:2])
    assert (newest["act"], newest["outcome"], newest["who"]) == ("task-resend", "refused", "operator")
    assert (older["act"], older["outcome"], older["who"], older["target"]) == (
        "queue-purge",
        "refused",
        "viewer",
        "mail",
    )
    assert "needs the permission 'manage'" in older["message"]
    text = site.ask("/api/v1/audit.csv", headers=basic("admin")).text
    assert "hunter2" not in text + page.text
    assert [row["act"] for row in csv.DictReader(io.StringIO(text))][:2] == ["task-resend", "queue-purge"]
    assert site.ask("/api/v1/audit/check", headers=basic("admin")).json()["broken"] == []
    site.sign_in("hunter2", "wrong")
    site.sign_in("viewer", "wrong")
    viewer, nobody = (
        kept["entry"] for kept in site.ask("/api/v1/audit?limit=2", headers=basic("admin")).json()["entries"]
    )
    assert [viewer["who"], viewer["act"], viewer["outcome"]] == ["viewer", "sign-in", "refused"]
    assert [nobody["who"], nobody["message"]] == ["", "a name that nobody has"]


@pytest.mark.parametrize("text", ["=1+1", "+1-cmd|'/C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "  =1", "%0A", "|x"])
def test_no_cell_is_run_by_a_spreadsheet(text: str) -> None:
    assert cell(text) == "'" + text
    assert list(csv.reader(io.StringIO(csv_lines(("target",), [entry(text)])))) == [["'" + text]]


@pytest.mark.parametrize(
    ("value", "text"), [(-1.5, "-1.5"), (None, ""), ("-3", "-3"), ("a,b", "a,b"), ({"a": 1}, '{"a":1}')]
)
def test_other_cells_are_what_they_are(value: object, text: str) -> None:
    assert cell(value) == text
