"""The page about slots and its answers for programs: what the night decided, in words and numbers."""

from __future__ import annotations

import json

from tests.web.conftest import Get, client
from tests.web.world import World


def test_it_says_who_is_held_back_and_why(get: Get) -> None:
    text = get("/autoscale").text
    assert "3 groups, 1 held back by memory" in text
    assert "kept 8, wants 32: memory allows 8" in text
    assert "dry run, lean" in text
    assert "would have" in text
    assert "chart-slots" in text
    assert "chart-oldest" in text


def test_another_group_is_shown_in_full(get: Get) -> None:
    text = get("/autoscale?q=mail").text
    assert "Would save" in text
    assert get("/autoscale?q=nobody").status_code == 200


def test_what_if_replays_the_load(get: Get) -> None:
    text = get("/autoscale?q=reports&least=2&most=32&within=60&preset=lean").text
    for words in ("As it was", "As asked", "Always 32 slots", "Perfect knowledge"):
        assert words in text
    for odd in ("least=-3", "most=99999999", "within=soon", "preset=eager"):
        assert get(f"/autoscale?q=reports&{odd}").status_code == 200


def test_an_empty_monitor_says_how_to_begin() -> None:
    text = client(World())("/autoscale").text
    assert "Nothing is scaled" in text
    assert "--autoscale=16,2" in text


def test_programs_read_every_group(get: Get) -> None:
    groups = {one["group"]: one for one in json.loads(get("/api/v1/autoscale").text)["groups"]}
    assert set(groups) == {"images", "mail", "reports"}
    assert groups["reports"]["finding"] == "kept 8, wants 32: memory allows 8"
    assert groups["reports"]["wanted_slots"] == 32
    assert groups["reports"]["decision"]["target"] == 8


def test_keda_reads_one_number(get: Get) -> None:
    answer = json.loads(get("/api/v1/autoscale/metrics?group=images").text)
    assert isinstance(answer["desired_slots"], int)
    assert answer["min_slots"] <= answer["desired_slots"] <= answer["max_slots"]
    whole = json.loads(get("/api/v1/autoscale/metrics").text)
    assert whole["desired_slots"] > answer["desired_slots"]


def test_a_silent_group_is_an_error_so_that_the_scaler_falls_back(get: Get) -> None:
    answer = get("/api/v1/autoscale/metrics?group=gone")
    assert answer.status_code == 404
    assert "No decision of group" in answer.text


def test_prometheus_has_the_series_for_an_hpa(get: Get) -> None:
    text = get("/metrics").text
    assert 'opsq_autoscale_desired_slots{group="reports"} 8' in text
    assert 'opsq_autoscale_max_slots{group="reports"} 32' in text
