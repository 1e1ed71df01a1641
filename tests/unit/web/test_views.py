"""What the pages say, decided from records alone."""

from __future__ import annotations

from opsq.events.records import (
    Freshness,
    Overview,
    Percentiles,
    Point,
    QueueItem,
    Segments,
    Strip,
    TaskItem,
    Try,
    WorkerItem,
)
from opsq.web.facts_overview import unwatched
from opsq.web.row_diff import RowDiff
from opsq.web.view_charts import rate_of
from opsq.web.view_common import Moments, Places, segment_lengths
from opsq.web.view_life import life
from opsq.web.view_overview import queue_row
from opsq.web.view_shell import tiles
from opsq.web.view_tasks import task_rows
from opsq.web.view_traceback import traceback_lines
from opsq.web.view_trouble import verdict

NOW = 1_790_000_000.0
PLACES = Places()


def strip(**changes: object) -> Strip:
    values: dict[str, object] = {
        "running": 1, "slots": 4, "waiting": 0, "waiting_most_in": None, "oldest_wait_s": 0.0, "oldest_in": None,
        "done_per_s": 1.0, "arrived_per_s": 1.0, "failed_share": 0.0, "failed": 0, "finished": 10,
        "event_lag_s": 0.01, "lost_events": 0, "lost_unknown_emitters": 0,
    }  # fmt: skip
    return Strip(**{**values, **changes})  # type: ignore[arg-type]


def overview(*, connected: bool = True, online: int = 1, kept: int = 10, **changes: object) -> Overview:
    fresh = Freshness(as_of=NOW, connected=connected)
    return Overview(
        strip=strip(**changes), freshness=fresh, states={}, workers_online=online, workers_late=0, workers_lost=0,
        tasks_kept=kept,
    )  # fmt: skip


def worker(status: str = "online", name: str = "opsq@a") -> WorkerItem:
    return WorkerItem(name=name, status=status, last_seen_at=NOW - 41, first_seen_at=NOW - 900)


def test_verdicts() -> None:
    calm = QueueItem(name="mail", ready=0)
    behind = QueueItem(name="reports", ready=412, oldest_age_s=478.0, arrived_per_s=0.86, done_per_s=0.43)
    cases = [
        ("2 queues on target, 1 worker up", overview(), [calm, calm], [worker()]),
        ("1 worker up", overview(), [], [worker()]),
        ("No worker is up", overview(online=0), [calm], [worker("offline")]),
        ("Tasks, but no worker yet", overview(online=0), [calm], []),
        ("Nothing has been seen yet", overview(online=0, kept=0), [], []),
        ("1 queue is in trouble, 1 worker is late", overview(), [behind, calm], [worker("late")]),
        ("2 workers are lost", overview(), [calm], [worker("lost"), worker("lost", "b")]),
        ("The broker cannot be heard", overview(connected=False), [calm], [worker()]),
        ("Too many tasks fail", overview(failed=30, finished=100, failed_share=0.3), [calm], [worker()]),
        ("Events were lost", overview(lost_events=3), [calm], [worker()]),
    ]
    for sentence, found, queues, workers in cases:
        assert verdict(found, queues, workers, PLACES, NOW).sentence == sentence


def test_a_queue_that_is_behind_says_by_how_much() -> None:
    behind = QueueItem(name="reports", ready=412, oldest_age_s=478.0, arrived_per_s=0.86, done_per_s=0.43)
    trouble = verdict(overview(), [behind], [], PLACES, NOW).troubles[0]
    assert trouble.headline == "falls behind by 26 tasks a minute"
    assert trouble.strong == "412 tasks wait, the oldest 7\u00a0min\u00a058\u00a0s"
    assert "No worker takes tasks from it" in trouble.text


def test_drained_in() -> None:
    def said(**values: object) -> str:
        return queue_row(QueueItem(name="q", **values), (), PLACES).drained  # type: ignore[arg-type]

    assert said() == "unknown"
    assert said(ready=0) == "–"
    assert said(ready=412, arrived_per_s=0.86, done_per_s=0.43) == "never, grows 26/min"
    assert said(ready=9, arrived_per_s=3.0, done_per_s=3.0) == "3\u00a0s"
    assert said(ready=9) == "nothing moves"
    assert said(ready=9, drain_s=61.0) == "1\u00a0min\u00a01\u00a0s"


def test_unknown_figures_are_words() -> None:
    shown = {
        tile.id: tile
        for tile in tiles(
            strip(slots=None, waiting=None, oldest_wait_s=None, event_lag_s=None, lost_events=None), PLACES
        )
    }
    assert shown["running"].note == "slots unknown"
    for name in ("waiting", "oldest", "lag", "lost"):
        assert shown[name].value == (("unknown", ""),)
        assert not shown[name].bad


def test_trouble_colours_its_tile() -> None:
    shown = {tile.id: tile.bad for tile in tiles(strip(oldest_wait_s=61.0, event_lag_s=9.0, lost_events=1), PLACES)}
    assert shown == {
        "running": False, "waiting": False, "oldest": True, "rate": False, "failed": False, "lag": True, "lost": True,
    }  # fmt: skip


def test_what_still_lasts_is_as_long_as_it_has_lasted() -> None:
    at = Moments(NOW - 5, NOW - 3, NOW - 2)
    assert segment_lengths(Segments(), "PENDING", at, NOW)[0] == ("waiting", 5)
    assert segment_lengths(Segments(broker=2), "RECEIVED", at, NOW)[1] == ("prefetched", 3)
    assert segment_lengths(Segments(broker=2, prefetch=1), "STARTED", at, NOW)[3] == ("running", 2)
    assert segment_lengths(Segments(run=0.2), "FAILURE", at, NOW)[3] == ("failed", 0.2)


def item(number: int, state: str = "SUCCESS") -> TaskItem:
    return TaskItem(key=number, id=f"id-{number}", state=state, type="shop.a.b", published_at=NOW - 1)


def test_a_list_sends_only_what_changed() -> None:
    diff = RowDiff()
    rows = task_rows([item(n) for n in range(6)], PLACES, NOW)
    first = diff.changes(rows, NOW)
    assert first.whole
    assert not first.fresh
    assert not diff.changes(rows, NOW).in_place
    changed = task_rows([item(0, "FAILURE"), *(item(n) for n in range(1, 6))], PLACES, NOW)
    second = diff.changes(changed, NOW + 1)
    assert not second.whole
    assert [row.task_id for row in second.in_place] == ["id-0"]
    third = diff.changes(task_rows([item(n) for n in range(1, 7)], PLACES, NOW), NOW + 2)
    assert third.whole
    assert len(third.fresh) == 1


def test_a_crowd_of_changes_is_sent_once_a_second() -> None:
    diff = RowDiff()
    diff.changes(task_rows([item(n) for n in range(50)], PLACES, NOW), NOW)
    assert diff.changes(task_rows([item(n) for n in range(50, 100)], PLACES, NOW), NOW + 0.25).whole
    assert not diff.changes(task_rows([item(n) for n in range(100, 150)], PLACES, NOW), NOW + 0.5).whole
    assert diff.changes(task_rows([item(n) for n in range(100, 150)], PLACES, NOW), NOW + 1.5).whole


def test_life_draws_tries_in_order_with_their_pauses() -> None:
    tries = [
        Try(number=n, state="RETRY" if n < 3 else "FAILURE", published_at=NOW + 10 * n, finished_at=NOW + 10 * n + 1,
            segments=Segments(broker=0.1, prefetch=0.1, run=0.8))
        for n in (1, 2, 3)
    ]  # fmt: skip
    drawn = life(tries, Percentiles(0.5, 0.6, 0.7, 9), NOW + 100)
    assert drawn is not None
    assert [one.label for one in drawn.tries] == ["1st try", "2nd try", "3rd try"]
    assert [one.pause for one in drawn.tries] == ["9\u00a0s pause", "9\u00a0s pause", ""]
    ends = [one.x for one in drawn.tries] + [100]
    assert ends == sorted(ends)
    assert all(segment.x + segment.width <= 100 for one in drawn.tries for segment in one.segments)
    assert drawn.tries[0].usual_x is not None


def test_a_life_without_times_is_not_drawn() -> None:
    assert life([Try(number=1, state="PENDING")], None, NOW) is None


def test_the_open_bucket_is_a_rate_of_its_own_time() -> None:
    assert rate_of(Point(at=NOW - 60, width_s=60, succeeded=60), 60, NOW) == 1
    assert rate_of(Point(at=NOW - 30, width_s=60, open=True), 60, NOW) == 2
    assert rate_of(Point(at=NOW - 3, width_s=60, open=True), 60, NOW) is None


def test_time_before_anybody_watched_is_not_drawn() -> None:
    points = [Point(at=NOW + 10 * n, width_s=10) for n in range(90)]
    assert unwatched(points, 0.0) == 0
    assert unwatched(points, NOW + 300) == 30
    assert unwatched(points, NOW + 899) == 60


def test_our_last_frame_is_marked() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/srv/shop/tasks.py", line 1, in a\n    b()\n'
        '  File "/srv/shop/files.py", line 2, in b\n    c()\n    ^^^\n'
        '  File "/x/site-packages/lib.py", line 3, in c\n    raise E\n'
        "E: no\n"
    )
    assert [line.css for line in traceback_lines(text)] == [
        "lib", "own", "own", "hit", "hit", "hit", "lib", "lib", "err",
    ]  # fmt: skip


def test_a_traceback_without_end_is_cut_in_the_middle() -> None:
    lines = traceback_lines("\n".join(f"  line {n}" for n in range(5000)))
    assert len(lines) == 401
    assert "4600 lines left out" in lines[200].text
