"""The parts of ``benchmarks peers`` that compute: rows, ratios, the table, and who enters."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from benchmarks.peers.contestants import chosen, contestants
from benchmarks.peers.figures import Run, ratios, row_of, table_of

THROUGHPUT_KEYS = {"system", "broker", "pool", "slots", "tasks", "executed", "distinct", "per_second", "rss_mb"}


def facts(name: str, pool: str, delivery: str = "at least once") -> dict[str, Any]:
    return {
        "name": name,
        "system": name.partition("-")[0],
        "version": "1.0",
        "broker": "redis",
        "pool": pool,
        "slots": 2,
        "settings": {"delivery": delivery},
    }


def row(name: str, pool: str, per_second: float) -> dict[str, Any]:
    return row_of(facts(name, pool), [Run(100, 100, 100, per_second, 50.0, 10.0)])


def test_a_row_has_medians_their_spread_and_sums_of_what_ran() -> None:
    runs = [
        Run(10, 10, 10, 100.0, 7.0, 50.0),
        Run(10, 12, 10, 300.0, 9.0, 70.0),
        Run(10, 9, 9, 200.0, 8.0, 60.0),
    ]
    made = row_of(facts("opsq-solo", "solo"), runs)
    assert made.keys() >= THROUGHPUT_KEYS
    assert (made["per_second"], made["enqueued_per_second"], made["rss_mb"]) == (200.0, 8.0, 60.0)
    assert made["spread"] == 1.0
    assert made["rates"] == [100.0, 300.0, 200.0]
    assert (made["rounds"], made["tasks"], made["executed"], made["distinct"]) == (3, 30, 31, 29)
    assert (made["lost"], made["again"]) == (1, 2)


def test_ratios_compare_with_the_best_peer_the_best_celery_and_the_same_pool() -> None:
    rows = [
        row("opsq-prefork", "prefork", 20.0),
        row("opsq-threads", "threads", 30.0),
        row("celery-prefork", "prefork", 2.0),
        row("celery-solo", "solo", 4.0),
        row("huey", "4 processes", 10.0),
    ]
    assert ratios(rows) == {
        "best_peer": "huey",
        "best_pool_to_best_peer": 3.0,
        "slowest_pool_to_best_peer": 2.0,
        "best_pool_to_best_celery": 7.5,
        "prefork_to_celery_prefork": 10.0,
    }


def test_there_are_no_ratios_without_both_sides() -> None:
    assert ratios([row("opsq-solo", "solo", 1.0)]) == {}
    assert ratios([row("rq", "2 SimpleWorkers", 1.0)]) == {}


def test_the_table_lists_the_fastest_first_and_what_was_lost() -> None:
    slow = row_of(facts("rq", "2 SimpleWorkers", "at most once"), [Run(2_000, 1_500, 1_500, 500.0, 1.0, 40.0)])
    output = StringIO()
    Console(file=output, width=160).print(table_of([slow, row("opsq-solo", "solo", 12_345.0)]))
    lines = [line for line in output.getvalue().splitlines() if "1.0" in line]
    assert "opsq 1.0" in lines[0]
    assert "12,345" in lines[0]
    assert "rq 1.0" in lines[1]
    assert "500" in lines[1]
    assert "at most once" in lines[1]


def test_each_broker_has_its_contestants_each_with_a_name_of_its_own() -> None:
    on_redis, on_amqp = ({each.name for each in contestants(broker)} for broker in ("redis", "amqp"))
    assert on_redis - on_amqp == {"huey", "rq"}
    assert on_amqp >= {"opsq-prefork", "opsq-threads", "celery-prefork", "celery-solo", "dramatiq", "taskiq"}
    assert len(on_redis) == len(contestants("redis"))


def test_everybody_states_the_same_settings() -> None:
    stated = {"delivery", "publish", "prefetch", "events", "serializer", "results"}
    for broker in ("redis", "amqp"):
        for each in contestants(broker):
            assert each.settings.keys() == stated
            assert each.settings["results"] == "off"
            assert 0 < each.tasks(broker, 1_000) <= 1_000


def test_a_choice_names_contestants_or_systems() -> None:
    everybody = contestants("redis")
    assert chosen(everybody, "") == everybody
    assert [each.name for each in chosen(everybody, "rq,opsq-solo")] == ["opsq-solo", "rq"]
    assert {each.system for each in chosen(everybody, "celery")} == {"celery"}
    with pytest.raises(ValueError, match="resque"):
        chosen(everybody, "celery,resque")
