"""Names of Celery, old and namespaced, are understood; mixtures and slips are not passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsq.errors import ConfigError
from opsq.settings import OPTIONS
from opsq.settings_celery import ENVIRONMENT, RENAMED, old_name, old_names, read_key
from opsq.settings_load import Loaded, load
from opsq.settings_sources import from_object


def shared(tmp_path: Path, values: dict[str, object], namespace: str = "") -> Loaded:
    return load(environ={}, cwd=tmp_path, shared=[from_object(values, detail="conf", namespace=namespace)])


def faults_of(tmp_path: Path, values: dict[str, object], namespace: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        shared(tmp_path, values, namespace)
    return [str(fault) for fault in caught.value.faults]


def test_every_name_in_the_tables_is_a_setting() -> None:
    assert set(RENAMED.values()) <= set(OPTIONS)
    assert set(ENVIRONMENT.values()) <= set(OPTIONS)
    assert all(old_name(name) in OPTIONS for name in old_names())


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("CELERY_RESULT_BACKEND", "result_backend", "redis://h"),
        ("CELERYD_CONCURRENCY", "worker_concurrency", 3),
        ("CELERY_TASK_SERIALIZER", "task_serializer", "json"),
        ("CELERY_TASK_RESULT_EXPIRES", "result_expires", 60.0),
        ("BROKER_URL", "broker_url", "redis://h"),
        ("CELERYBEAT_SCHEDULE", "beat_schedule", {}),
        ("CELERY_ALWAYS_EAGER", "task_always_eager", True),
        ("CASSANDRA_KEYSPACE", "cassandra_keyspace", None),
    ],
)
def test_old_names_give_one_notice_with_todays_name(tmp_path: Path, old: str, new: str, value: object) -> None:
    loaded = shared(tmp_path, {old: value})
    assert getattr(loaded.settings, new) == value
    assert loaded.notices == [f"{old} is now {new} (from code conf: {old})"]


def test_a_namespace_takes_its_own_and_nothing_else(tmp_path: Path) -> None:
    loaded = shared(
        tmp_path,
        {"CELERY_TASK_SERIALIZER": "json", "CELERY_WORKER_CONCURRENCY": 3, "TIME_ZONE": "x", "task_acks_late": "bad"},
        namespace="CELERY",
    )
    assert loaded.given() == {"task_serializer": "json", "worker_concurrency": 3}
    assert loaded.notices == []


def test_an_old_name_inside_the_namespace_gives_a_notice(tmp_path: Path) -> None:
    loaded = shared(tmp_path, {"CELERY_ACKS_LATE": False}, namespace="CELERY")
    assert loaded.settings.task_acks_late is False
    assert loaded.notices == ["CELERY_ACKS_LATE is now task_acks_late (from code conf: CELERY_ACKS_LATE)"]


def test_a_slip_inside_the_namespace_is_a_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path, {"CELERY_TASK_SERIALISER": "json"}, "CELERY") == [
        "unknown setting CELERY_TASK_SERIALISER (from code conf: CELERY_TASK_SERIALISER); "
        "did you mean CELERY_TASK_SERIALIZER?"
    ]


def test_mixing_the_old_and_the_new_name_is_a_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path, {"CELERYD_CONCURRENCY": 3, "worker_concurrency": 2}) == [
        "worker_concurrency is set twice, as CELERYD_CONCURRENCY and as worker_concurrency "
        "(from code conf: worker_concurrency); keep only worker_concurrency"
    ]


def test_a_name_that_merely_lost_its_case_is_a_fault(tmp_path: Path) -> None:
    """Celery ignores TASK_ACKS_LATE without a word."""
    assert faults_of(tmp_path, {"TASK_ACKS_LATE": True}) == [
        "unknown setting TASK_ACKS_LATE (from code conf: TASK_ACKS_LATE); did you mean task_acks_late?"
    ]


def test_a_removed_name_is_mentioned(tmp_path: Path) -> None:
    loaded = shared(tmp_path, {"CELERY_CHORD_PROPAGATES": True})
    assert loaded.notices[0].startswith("CELERY_CHORD_PROPAGATES no longer does anything")
    assert loaded.foreign == {}


@pytest.mark.parametrize("key", ["DATABASES", "DEBUG", "TIME_ZONE", "REDIS_HOST", "DATA_DIR", "LOG_LEVEL", "CACHES"])
def test_djangos_and_other_peoples_keys_are_left_alone(tmp_path: Path, key: str) -> None:
    assert shared(tmp_path, {key: "x"}).foreign == {key: "x"}


def test_strictness_is_the_files_alone(tmp_path: Path) -> None:
    (tmp_path / "opsq.toml").write_text("CELERYD_CONCURRENCY = 3")
    with pytest.raises(ConfigError, match="unknown setting CELERYD_CONCURRENCY"):
        load(environ={}, cwd=tmp_path)


def test_read_key_knows_the_foreign() -> None:
    assert read_key("OTHER_X", "CELERY").foreign
    assert read_key("CELERY_BROKER_URL", "CELERY_").name == "broker_url"
