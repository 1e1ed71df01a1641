"""How raw values are read: from text, from TOML, from code; and what is said when they do not fit."""

from __future__ import annotations

from datetime import timedelta

import pytest

from opsq.masking import Secret
from opsq.settings import OPTIONS
from opsq.settings_values import coerce

FROM_TEXT = [
    ("worker_concurrency", "8", 8),
    ("worker_concurrency", "auto", 0),
    ("task_acks_late", "no", False),
    ("task_acks_late", "ON", True),
    ("task_time_limit", "5m", 300.0),
    ("task_time_limit", "500ms", 0.5),
    ("task_time_limit", "none", None),
    ("task_time_limit", "", None),
    ("message_max_bytes", "64MiB", 64 * 1024 * 1024),
    ("message_max_bytes", "1GB", 1_000_000_000),
    ("monitor_retention_days", "2w", 14.0),
    ("worker_max_memory_per_child", "512MiB", 512 * 1024),
    ("accept_content", "json, yaml", ("json", "yaml")),
    ("accept_content", '["json"]', ("json",)),
    ("broker_url", "redis://a;redis://b", "redis://a;redis://b"),
    ("broker_url", '["redis://a", "redis://b"]', ("redis://a", "redis://b")),
    ("broker_transport_options", '{"visibility_timeout": 60}', {"visibility_timeout": 60}),
    ("broker_use_ssl", "true", True),
    ("broker_use_ssl", '{"ca_certs": "x"}', {"ca_certs": "x"}),
    ("task_routes", '{"a.*": {"queue": "q"}}', {"a.*": {"queue": "q"}}),
    ("task_default_rate_limit", "10/s", "10/s"),
    ("task_default_rate_limit", "10", 10.0),
    ("task_default_delivery_mode", "transient", 1),
    ("timezone", "none", None),
    ("result_backend_max_retries", "inf", float("inf")),
    ("log_level", "debug", "DEBUG"),
    ("redis_password", "pw", Secret("pw")),
    ("redis_db", "3", 3),
]

FROM_CODE = [
    ("task_time_limit", timedelta(minutes=1), 60.0),
    ("result_expires", timedelta(days=2), 172_800.0),
    ("worker_concurrency", None, 0),
    ("worker_concurrency", 4.0, 4),
    ("worker_concurrency", "4", 4),
    ("include", ["a", "b"], ("a", "b")),
    ("include", {"b", "a"}, ("a", "b")),
    ("broker_url", ["redis://a"], ("redis://a",)),
    ("task_acks_late", 1, True),
    ("redis_db", "3", "3"),
    ("broker_connection_timeout", 4, 4.0),
]

FAULTS = [
    ("worker_concurrency", -1, "expected worker_concurrency between 0 and 100000 slots, got -1"),
    ("worker_concurrency", "x", "expected worker_concurrency to be a whole number (slots), got 'x'"),
    ("worker_concurrency", True, "expected worker_concurrency to be a whole number (slots), got True"),
    ("worker_concurrency", 1.5, "expected worker_concurrency to be a whole number (slots), got 1.5"),
    ("task_time_limit", -1, "expected task_time_limit at least 0 s, got -1"),
    ("task_time_limit", "soon", "expected task_time_limit to be a number or none (s), got 'soon'"),
    ("task_time_limit", float("nan"), "expected task_time_limit to be a number or none (s), got nan"),
    ("task_default_delivery_mode", "sometimes", "expected task_default_delivery_mode to be a whole number, "
                                                "got 'sometimes'"),
    ("task_acks_late", "maybe", "expected task_acks_late to be true or false, got 'maybe'"),
    ("accept_content", 3, "expected accept_content to be a list of texts, got 3"),
    ("log_format", "xml", "expected log_format to be one of console, json, got 'xml'"),
    ("broker_url", 5, "expected broker_url to be a list of texts, text or none, got 5"),
    ("redis_password", 5, "expected redis_password to be text or none, got a value of the wrong type"),
    ("mongodb_backend_settings", "pw", "expected mongodb_backend_settings to be a table or none, "
                                       "got a value of the wrong type"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "value"), FROM_TEXT)
def test_from_the_environment(name: str, text: str, value: object) -> None:
    got = coerce(OPTIONS[name], text, from_text=True)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(("name", "raw", "value"), FROM_CODE)
def test_from_code(name: str, raw: object, value: object) -> None:
    got = coerce(OPTIONS[name], raw)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(("name", "raw", "text"), FAULTS)
def test_what_is_said(name: str, raw: object, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        coerce(OPTIONS[name], raw)
    assert str(caught.value) == text
