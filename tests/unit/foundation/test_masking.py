"""Passwords never reach a screen or a log, wherever they hide."""

from __future__ import annotations

import pytest

from opsq.masking import Secret, mask, mask_url

URLS = [
    ("redis://host:6379/0", "redis://host:6379/0"),
    ("redis://:pw@host/0", "redis://:***@host/0"),
    ("amqp://user:pw@host:5672//", "amqp://user:***@host:5672//"),
    ("amqp://user:p@w/x@host//", "amqp://user:***@host//"),
    ("redis://:a;b@h1;redis://:c@h2", "redis://:***@h1;redis://:***@h2"),
    ("sentinel://:pw@a:1;sentinel://:pw@b:1", "sentinel://:***@a:1;sentinel://:***@b:1"),
    ("https://t0ken@host/x", "https://***@host/x"),
    ("redis://host/0?password=pw&db=1", "redis://host/0?password=***&db=1"),
    ("redis://:p?w@host/0", "redis://:***@host/0"),
    ("db+postgresql://u:pw@h/d?sslmode=require", "db+postgresql://u:***@h/d?sslmode=require"),
    ("redis://u:pw@host/0?email=a@b", "redis://u:***@host/0?email=a@b"),
    ("no url", "no url"),
]


@pytest.mark.parametrize(("url", "shown"), URLS)
def test_urls(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {secret:}"
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2")
    assert bool(Secret("")) is False


def test_tables_and_lists_are_masked_at_any_depth() -> None:
    raw = {"a": [{"api_key": "x", "n": 1}], "b": ("redis://:x@h",), "token": None, "aws_secret_access_key": "x"}
    assert mask(raw) == {
        "a": [{"api_key": "***", "n": 1}],
        "b": ("redis://:***@h",),
        "token": None,
        "aws_secret_access_key": "***",
    }
