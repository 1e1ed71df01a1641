"""The search line: what it finds, and where it says a fault is."""

from __future__ import annotations

import pytest

from opsq.events import search
from opsq.events.records import TaskItem, time_key
from opsq.events.search import Fault, parse
from opsq.events.store import Choice

NOW = 1_790_000_000.0
KNOWN = {"type": {"shop.pay", "shop.refund", "mail.send", None}, "state": {"SUCCESS"}, "queue": set(), "worker": set()}


def test_a_whole_line() -> None:
    """Every key, alternatives, exclusion, quotes, words."""
    found = parse(
        'state:failed,retry type:shop.* -queue:mail worker:"opsq@a b" id:7f3a since:2h timeout -"no luck"', NOW
    )
    assert found.wanted == {"state": ("FAILURE", "RETRY"), "type": ("shop.*",), "worker": ("opsq@a b",)}
    assert found.unwanted == {"queue": ("mail",)}
    assert (found.id, found.since_at, found.text, found.without) == ("7f3a", NOW - 7200, ("timeout",), ("no luck",))
    assert found.faults == ()
    where = search.where(found, KNOWN)
    assert where.choices["type"] == Choice(frozenset({"shop.pay", "shop.refund"}))
    assert where.choices["queue"] == Choice(None, frozenset({"mail"}))
    assert where.since == time_key(NOW - 7200)


def test_states_have_their_own_and_everyday_names() -> None:
    """``state:running`` is ``state:STARTED``; ``state:done`` is every end."""
    assert parse("state:running", NOW).wanted["state"] == parse("state:started", NOW).wanted["state"] == ("STARTED",)
    assert "FAILURE" in parse("state:done", NOW).wanted["state"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("abc stat:failed", Fault("stat: is not a field; did you mean state:", 4, 11)),
        ("state:faild", Fault("faild is not a state; did you mean failed", 0, 11)),
        ("state:", Fault("state: needs a value, such as state:failed", 0, 6)),
        ("since:yesterday", Fault("yesterday is not a time; write since:30min, since:2h or since:7d", 0, 15)),
    ],
)
def test_faults_say_where_and_what_to_write(line: str, fault: Fault) -> None:
    """The rest of the line still filters."""
    found = parse(line + " type:a", NOW)
    assert found.faults == (fault,)
    assert found.wanted["type"] == ("a",)


def test_unknown_values_are_searchable() -> None:
    """``none`` stands for what no event told."""
    assert search.where(parse("type:none", NOW), KNOWN).choices["type"] == Choice(frozenset({None}))


def test_words_look_into_arguments_and_errors() -> None:
    """All words, any case, none of the excluded."""
    item = TaskItem(key=1, id="7f", state="FAILURE", args="('Anna',)", exception="Timeout('db')")
    assert search.matches(search.of(text="anna TIMEOUT"), item)
    assert not search.matches(search.of(text="bob"), item)
    assert not search.matches(parse("anna -timeout", NOW), item)


@pytest.mark.parametrize(
    "line", ["", '"', ":", "::", 'type:"', "-", "--", "a:b:c", "*", "\x00", "x" * 10_000, "- state:"]
)
def test_no_line_breaks_it(line: str) -> None:
    """Anything can be typed."""
    search.where(parse(line, NOW), KNOWN)
