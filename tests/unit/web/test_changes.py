"""What changed: deploys by label, starts without one, orders given once, acts with their names; marks on an axis."""

from __future__ import annotations

from opsq.events.decisions import DecisionItem
from opsq.events.views import LifeEntry
from opsq.web.audit import Entry
from opsq.web.changes import Change, Life, changes, decision, marks
from opsq.web.charts_data import Line, Plot, table

T = 1_795_000_000.0


def life(name: str, *entries: tuple[float, str, str], queues: tuple[str, ...] = ("reports",)) -> Life:
    return Life(name, queues, [LifeEntry(T + at, what, detail) for at, what, detail in entries])


def told(*lives: Life, acts: tuple[Entry, ...] = ()) -> list[str]:
    return [f"{change.kind}: {change.said}" for change in changes(lives, acts, T)]


def test_a_rolling_deploy_is_one_change_with_its_queues() -> None:
    lives = [life(f"opsq@r-{n}", (0, "version", "v1"), (900 + 20 * n, "version", "v2")) for n in range(3)]
    found = changes(lives, (), T)
    assert [(change.said, change.at - T, change.small) for change in found] == [
        ("deploy v2 to reports", 900, "3 workers run it")
    ]
    assert found[0].major
    assert found[0].version == "v2"


def test_the_first_label_that_was_seen_is_no_deploy_and_a_worker_that_joins_is_none() -> None:
    assert told(life("opsq@a", (0, "version", "v1")), life("opsq@b", (5000, "version", "v1"))) == []


def test_going_back_is_a_deploy_too() -> None:
    lives = life("opsq@a", (0, "version", "v1"), (900, "version", "v2"), (1800, "version", "v1"))
    assert told(lives) == ["deploy: deploy v1 to reports", "deploy: deploy v2 to reports"]


def test_workers_of_other_queues_do_not_make_each_other_a_deploy() -> None:
    first = life("opsq@a", (0, "version", "shop-1"), queues=("shop",))
    other = life("opsq@b", (500, "version", "mail-7"), queues=("mail",))
    assert told(first, other) == []


def test_starts_without_a_label_are_said_as_starts() -> None:
    lives = [life(f"opsq@r-{n}", (0, "started", "e1"), (900 + n, "restarted", "e2")) for n in range(2)]
    assert told(*lives) == ["deploy: 2 workers started"]


def test_an_order_that_several_workers_carried_out_was_given_once() -> None:
    lives = [life(f"opsq@r-{n}", (100 + n, "command", "pool_grow {'n': 2} {'ok': 'will'}")) for n in range(2)]
    found = changes(lives, (), T)
    assert [(change.kind, change.said, change.small) for change in found] == [
        ("scale", "pool grown on 2 workers", "n 2")
    ]


def test_an_act_of_the_pages_stands_for_what_it_made_workers_do() -> None:
    act = Entry(at=T + 99, who="oncall", how="session", source="", act="queue-pause", target="mail", outcome="done")
    refused = Entry(at=T + 50, who="eve", how="session", source="", act="queue-purge", target="mail", outcome="refused")
    worker = life("opsq@a", (100, "command", "pause {'queue': 'mail'} {'ok': ''}"))
    assert told(worker, acts=(act, refused)) == ["control: queue pause mail"]
    assert told(worker) == ["control: paused on a"]


def test_a_decision_says_whether_it_was_carried_out() -> None:
    made = DecisionItem(group="images", at=T, source="", have=12, want=16, target=16, applied=15, text="oldest 4 s")
    assert decision(made).said == "images 12 → 15 slots"
    dry = DecisionItem(group="mail", at=T, source="", have=10, want=4, target=4, mode="dry")
    assert decision(dry).said == "mail would go 10 → 4 slots"


def plot(buckets: int = 11) -> Plot:
    return Plot(T, 60.0, (Line("done", "done", "total", [1.0] * buckets, "/s"),), 0.0, 2.0)


def test_marks_stand_where_their_time_is_and_labels_keep_apart() -> None:
    deploys = [Change(T + at, "deploy", f"deploy {at}", major=True) for at in (-5, 60, 90, 540)]
    found = marks(plot(), deploys)
    assert [(mark.x, mark.flag, mark.left) for mark in found] == [
        (10.0, True, False), (15.0, False, False), (90.0, True, True),
    ]  # fmt: skip
    assert marks(None, deploys) == ()


def test_the_table_has_each_bucket_newest_first() -> None:
    seconds = Line("run", "run", "running", [0.5, None, 2.0], "s")
    found = table([Plot(T, 60.0, (Line("done", "done", "total", [1.0, 2.0, None], "/s"), seconds), 0.0, 2.0)])
    assert found.columns == ("Done /s", "Run")
    assert [row[1:] for row in found.rows] == [("–", "2\u00a0s"), ("2", "–"), ("1", "500\u00a0ms")]
    assert table([]).rows == ()
