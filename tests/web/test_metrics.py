"""``/metrics``: what it says is what the pages say, in both formats, within bounds, and no count falls."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from opsq.events.bounds import LATENCY_S, Buckets
from opsq.events.rollup import SEGMENTS, Slice
from opsq.web.metrics import SEGMENT_HELP, SERIES
from opsq.web.metrics_foreign import EXPORTER, FLOWER, FOREIGN
from opsq.web.metrics_latency import Latencies
from opsq.web.metrics_names import LABEL_BUDGET, OTHER, UNKNOWN, Kept
from opsq.web.metrics_page import MetricsPage
from opsq.web.metrics_reading import reading
from opsq.web.metrics_text import family, number
from tests.web.conftest import Get
from tests.web.world import SHOP, World, night

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ALL = (*SERIES, *FLOWER, *EXPORTER)
Families = Mapping[str, Mapping[tuple[str, ...], float]]


def page_of(world: World, *foreign: str) -> MetricsPage:
    """The metrics of a world."""
    return MetricsPage(lambda: reading(world.deps()), foreign)


def told(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name and label values."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for each in text_families(text):
        for sample in each.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.fixture(scope="module")
def told_now(world: World) -> Families:
    return told(page_of(world, "flower", "celery").answer("")[0].decode())


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_metrics_can_be_scraped(get: Get, accept: str) -> None:
    answer = get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith(accept.split(";")[0])
    parse = openmetrics_families if accept == OPENMETRICS else text_families
    families = {each.name: each for each in parse(answer.text)}
    # OpenMetrics names a counter without its ending; the parsers differ in nothing else.
    assert {series.name.removesuffix("_total") for series in ALL} == {name for name in families if is_ours(name)}
    assert {"python_info", "process_resident_memory_bytes"} <= set(families)


def is_ours(name: str) -> bool:
    return name.startswith(("opsq_", "flower_", "celery_"))


def test_metrics_say_what_the_pages_say(told_now: Families, world: World) -> None:
    overview = world.query.overview()
    ended = told_now["opsq_tasks_total"]
    assert sum(n for (_, state), n in ended.items() if state == "succeeded") == overview.states["SUCCESS"]
    assert told_now["opsq_tasks_kept"] == {(state,): n for state, n in overview.states.items()}
    assert told_now["opsq_queue_length"]["reports",] > 100
    assert told_now["opsq_workers"] == {("online",): 5, ("late",): 1, ("lost",): 0, ("offline",): 0}
    assert told_now["opsq_slots"]["opsq@img-1",] == 8
    assert told_now["opsq_pool_slots"]["prefork",] >= 16
    assert told_now["opsq_tasks_running"][()] == overview.strip.running
    assert told_now["opsq_history_tasks"][()] == overview.tasks_kept
    assert told_now["opsq_worker_silent_seconds"]["opsq@reports-2",] > 12
    assert told_now["opsq_error_groups"][()] == len(world.views.errors())
    assert sum(told_now["opsq_errors_total"].values()) == sum(g.failed + g.retried for g in world.views.errors())


@pytest.mark.parametrize("segment", SEGMENTS)
@pytest.mark.parametrize("label", ["task", "queue_task"])
def test_each_segment_has_its_histogram(told_now: Families, segment: str, label: str) -> None:
    name = f"opsq_{label}_{SEGMENT_HELP[segment][0]}_seconds"
    counts, whole = told_now[f"{name}_bucket"], told_now[f"{name}_count"]
    assert whole
    for (key,), count in whole.items():
        ends = [counts[key, number(bound)] for bound in LATENCY_S] + [counts[key, "+Inf"]]
        assert ends == sorted(ends)
        assert ends[-1] == count
        assert told_now[f"{name}_sum"][key,] >= 0


def test_a_histogram_counts_the_runs(told_now: Families, world: World) -> None:
    runs = [one for kind in world.query.task_types(7200) if kind.name == "shop.images.resize" for one in (kind.run,)]
    assert runs[0] is not None
    assert told_now["opsq_task_run_seconds_count"]["shop.images.resize",] == runs[0].count
    half = told_now["opsq_task_run_seconds_bucket"]["shop.images.resize", "0.25"] / runs[0].count
    assert 0.1 < half < 0.6  # its median is 0.28 s
    assert told_now["opsq_task_run_seconds_sum"]["shop.images.resize",] == pytest.approx(runs[0].count * 0.29, rel=0.1)


def test_exemplars_name_a_task_of_the_bucket(world: World) -> None:
    text = page_of(world).answer(OPENMETRICS)[0].decode()
    found = re.findall(
        r'opsq_task_run_seconds_bucket\{type="([^"]+)",le="([^"]+)"\} \d+ # \{task_id="([^"]+)"\} (\S+)', text
    )
    assert len(found) > 5
    for type, bound, id, value in found:
        detail = world.query.task(id)
        assert detail is not None
        assert detail.item.type == type
        assert float(value) <= float(bound)
    assert "# {" not in page_of(world).answer("text/plain")[0].decode()


def test_the_table_keeps_the_rules_of_prometheus() -> None:
    """promtool checks the same on the text; this names the row."""
    assert len({series.name for series in ALL}) == len(ALL)
    for series in ALL:
        assert series.name.endswith("_total") == (series.kind == "counter"), series.name
        assert series.help.endswith("."), series.name
        assert "le" not in series.labels
        if series.unit:
            assert series.name.removesuffix("_total").endswith("_" + series.unit), series.name
        if series.kind in ("gauge", "counter"):
            assert not series.name.endswith(("_count", "_sum", "_bucket", "_info")) or series.name == "opsq_build_info"


def test_the_foreign_names_can_be_left_out(world: World) -> None:
    text = page_of(world).answer("")[0].decode()
    assert "flower_" not in text
    assert "celery_" not in text
    assert "flower_events_total" in page_of(world, "flower").answer("")[0].decode()
    assert set(FOREIGN) == {"flower", "celery"}


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_made_up_names_do_not_fill_a_prometheus() -> None:
    kept = Kept(most=200)
    kept.settle(f"task-{n:05}" for n in range(1000))
    assert len({kept(f"task-{n:05}") for n in range(1000)}) == 201
    assert kept("task-00000") == "task-00000"
    assert kept("task-00999") == OTHER
    assert kept.hidden == 800
    assert kept(None) == UNKNOWN


def test_who_is_told_apart_stays_so() -> None:
    """A name that moved out of ``other`` would make its count fall."""
    kept = Kept(most=2)
    kept.settle(["a", "b", "c"])
    kept.settle(["c", "b", "a"])
    assert [kept(name) for name in "abc"] == ["a", "b", OTHER]
    kept.settle(["c", "b"])
    assert kept("c") == OTHER
    kept.settle(["c", "b", "d"])  # the room of one that went is for one that comes
    assert [kept(name) for name in "bcd"] == ["b", OTHER, "d"]


def test_a_flood_of_names_is_counted_under_other() -> None:
    world = World()
    for n in range(LABEL_BUDGET + 50):
        at = world.clock.now()
        world.tell("task-succeeded", "img-1", at, f"id-{n}", name=f"made.up.{n:04}", queue="q", runtime=0.1)
    world.step(1.0)
    found = told(page_of(world, "flower", "celery").answer("")[0].decode())
    by_type = {type: n for (type, state), n in found["opsq_tasks_total"].items() if state == "succeeded"}
    assert len(by_type) == LABEL_BUDGET + 1
    assert by_type[OTHER] == 50
    assert found["opsq_metrics_hidden_names"]["type",] == 50
    assert found["opsq_queue_tasks_total"]["q", "succeeded"] == LABEL_BUDGET + 50


# -- counts only grow ------------------------------------------------------------------------------------------------


def test_a_correction_is_no_restart() -> None:
    """A task that failed and then turns out to have succeeded moves; the count of failures stays where it was."""
    world = World()
    page = page_of(world)
    at = world.clock.now()
    world.tell("worker-online", "img-1", at)
    for n in range(5):
        world.tell("task-failed", "img-1", at + n, f"t{n}", name="shop.x", exception="E()", runtime=2.0, retries=0)
    world.step(6.0)
    before = told(page.answer("")[0].decode())["opsq_tasks_total"]
    world.tell("task-succeeded", "img-1", at + 5, "t0", name="shop.x", runtime=2.0, retries=0)
    world.step(2.0)
    after = told(page.answer("")[0].decode())["opsq_tasks_total"]
    assert world.query.figures.by("t:")["shop.x"].counts[1] == 4
    assert before["shop.x", "failed"] == after["shop.x", "failed"] == 5
    assert after["shop.x", "succeeded"] == 1


def test_no_bucket_falls() -> None:
    before, after = Buckets((1.0,), (5, 9), 7.0), Buckets((1.0,), (4, 9), 6.5)
    assert after.at_least(before) == before
    assert after.at_least(None) == after


def test_what_did_not_change_is_not_counted_again() -> None:
    run = SEGMENTS.index("run")
    held, hidden = (Slice(sketches={run: {400: 2}}, run_s=1.0) for _ in range(2))
    whole = Slice(sketches={run: {400: 5}}, run_s=3.0)
    latencies = Latencies()
    rows = latencies.rows({"a": held, "b": hidden}, whole, lambda name: name if name == "a" else OTHER)
    counted = {label: by_segment[run] for label, by_segment in rows.items()}
    assert counted["a"] is not None
    assert counted[OTHER] is not None
    assert (counted["a"].count, counted["a"].sum_s) == (2, 1.0)
    assert (counted[OTHER].count, counted[OTHER].sum_s) == (3, 2.0)
    held.sketches = {}  # nobody may write to it; if somebody did, nobody would see it
    assert latencies.rows({"a": held}, whole, lambda name: name)["a"][run] == counted["a"]


# -- text ------------------------------------------------------------------------------------------------------------


def test_labels_of_any_text_are_read_back() -> None:
    names = ['a"b', "back\\slash", "line\nbreak", "100 %d %s", "\0", "ü✓", "}{,="]
    rows = [((name,), Buckets((0.5,), (1, 3), 2.5)) for name in names]
    text = "".join(family("x_seconds", "histogram", "Help.", ("of",), rows))
    (found,) = text_families(text)
    counted = {s.labels["of"]: s.value for s in found.samples if s.name == "x_seconds_count"}
    assert counted == dict.fromkeys(names, 3.0)


def test_a_tick_of_a_schedule_is_counted() -> None:
    world = night(minutes=1)
    at = world.clock.now()
    for n in range(3):
        fields = {"name": "nightly", "task": SHOP[0].name, "due_at": at + n, "late_s": 0.2, "missed": 1}
        world.tell("schedule-tick", "web-3", at + n, **fields, sent_at=at + n + 0.2)
    world.tell("schedule-tick", "web-3", at + 4, name="nightly", asked=True)
    world.tell("schedule-tick", "web-3", at + 5, name=7, late_s="soon", missed=None)
    world.step(6.0)
    found = told(page_of(world).answer("")[0].decode())
    assert found["opsq_beat_ticks_total"] == {("nightly",): 3, ("other",): 1}
    assert found["opsq_beat_asked_total"]["nightly",] == 1
    assert found["opsq_beat_missed_total"]["nightly",] == 1
    assert found["opsq_beat_late_seconds_bucket"]["0.25",] == 3
