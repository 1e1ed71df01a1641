"""The search line: what it means, and where it says a fault is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from opsq.events import search
from opsq.events.document import Looked, matches
from opsq.events.evidence import EMPTY, encode, fold
from opsq.events.facets import FacetCounts
from opsq.events.faults import fault_of
from opsq.events.grammar import (
    DEEPEST,
    EVERYTHING,
    LONGEST_LINE,
    MOST_TOKENS,
    Either,
    Every,
    Fault,
    Id,
    Named,
    Not,
    Number,
    Pair,
    Text,
    When,
    parse,
)
from opsq.events.grammar_fields import FIELDS
from opsq.events.records import time_key
from opsq.events.rows import TaskRow
from opsq.testing.contract_store import T0, event

NOW = T0 + 3600
FAULT = fault_of("Timeout('db at 10.0.0.1')", None, None)


def test_a_whole_line() -> None:
    """The line of the manual, and everything else a term can be."""
    found = parse("state:FAILURE runtime:>5s name:img.* since:2h -worker:w3")
    assert found.faults == ()
    assert found.root == Every(
        (
            Named("state", ("FAILURE",)),
            Number("runtime", 5.0, None, low_in=False),
            Named("type", ("img.*",)),
            When(False, ago_s=7200.0),
            Not(Named("worker", ("w3",))),
        )
    )
    more = parse('a OR (b AND NOT "x y") kwargs:user_id=5 id:7f3a memory:>=1.5MB retries:2..3 until:2026-09-21T10:00Z')
    assert more.faults == ()
    assert isinstance(more.root, Either)
    assert more.root.parts[0] == Text("", "a")
    assert more.root.parts[1] == Every(
        (
            Every((Text("", "b"), Not(Text("", "x y")))),
            Pair("user_id", "5"),
            Id("id", "7f3a"),
            Number("memory", 1.5e6, None),
            Number("retries", 2.0, 3.0),
            When(True, at=1789984800.0),
        )
    )


@pytest.mark.parametrize(
    ("line", "root"),
    [
        ("", EVERYTHING),
        ("state:failed,retry", Named("state", ("FAILURE", "RETRY"))),
        ("state:running", Named("state", ("STARTED",))),
        ('worker:"opsq@a b"', Named("worker", ("opsq@a b",))),
        ('-"no luck"', Not(Text("", "no luck"))),
        ("--a", Not(Not(Text("", "a")))),
        ('"a \\"b\\""', Text("", 'a "b"')),
        ("pay(1)", Text("", "pay(1)")),
        ("(pay(1))", Text("", "pay(1)")),
        ("a AND b", Every((Text("", "a"), Text("", "b")))),
        ("a and b", Every((Text("", "a"), Text("", "and"), Text("", "b")))),
        ("runtime:<=200ms", Number("runtime", None, 0.2)),
        ("runtime:..5", Number("runtime", None, 5.0)),
        ("uuid:7f", Id("id", "7f")),
        ("error:E", Text("exception", "e")),
        ('kwargs:"a=b"', Text("kwargs", "a=b")),
    ],
)
def test_terms_mean_what_the_manual_says(line: str, root: object) -> None:
    """One by one."""
    found = parse(line)
    assert (found.root, found.faults) == (root, ())


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("abc stat:failed", Fault("stat: is not a field; did you mean state:", 4, 11)),
        ("state:faild", Fault("faild is not a state; did you mean failed", 0, 11)),
        ("state:", Fault("state: needs a value, such as state:failed", 0, 6)),
        ("since:yesterday", Fault("yesterday is not a time; write since:30min, since:2h or since:7d", 0, 15)),
        ("runtime:>5x", Fault("5x is not a duration; a duration was expected, such as runtime:>5s", 0, 11)),
        ("runtime:9s..5s", Fault("9s is more than 5s; write runtime:5s..9s", 0, 14)),
        ("a (b", Fault("this ( is not closed; ) was expected", 2, 1)),
        ("a )", Fault("this ) closes nothing; take it away, or quote it to search for it", 2, 1)),
        ("a OR", Fault("OR needs a term on both sides; a word or a field:value was expected after it", 2, 2)),
        ("NOT", Fault("a term was expected after this; write -word or -field:value", 0, 3)),
    ],
)
def test_faults_say_where_and_what_to_write(line: str, fault: Fault) -> None:
    """With the column, what was expected, and the nearest thing that would have been right."""
    assert parse(line).faults == (fault,)
    shown = fault.pointed(line).splitlines()
    assert shown[1].index("^") == fault.position
    assert f"column {fault.position + 1}: " in shown[2]


def test_the_rest_of_a_faulty_line_still_filters() -> None:
    """A typing error must not show everything."""
    assert parse("stat:failed type:a").root == Named("type", ("a",))


def test_lines_are_bounded() -> None:
    """Letters, terms, depth."""
    assert "letters" in parse("x" * (LONGEST_LINE + 1)).faults[0].problem
    assert "terms" in parse("x " * (MOST_TOKENS + 1)).faults[0].problem
    assert "deep" in parse("(" * (DEEPEST + 1) + "x" + ")" * (DEEPEST + 1)).faults[0].problem
    assert parse("(" * DEEPEST + "x" + ")" * DEEPEST).faults == ()


@given(some.one_of(some.text(max_size=200), some.text(alphabet='ab:"()-\\ ORNDTruntime>.*=,5s', max_size=60)))
def test_no_line_breaks_it(line: str) -> None:
    """Anything can be typed; faults lie inside the line."""
    found = parse(line)
    for fault in found.faults:
        assert 0 <= fault.position <= len(line)
    matches(found.root, Looked(_row()), NOW)


def test_every_field_explains_itself() -> None:
    """The example of each field is a line without fault."""
    for field in FIELDS.values():
        assert parse(field.example).faults == (), field.name


def _row(**fields: object) -> TaskRow:
    told = {
        "name": "img.resize", "args": "('Anna', 'größe')", "kwargs": "{'user_id': 5, 'tag': 'X-9'}", "retries": 0,
        "published_at": T0 - 2, **fields,
    }  # fmt: skip
    known = fold(
        EMPTY,
        [
            event("task-received", "7f3ac91e-0000-4000-8000-000000000000", T0, host="celery@w3", **told),
            event("task-started", "7f3ac91e-0000-4000-8000-000000000000", T0 + 1, host="celery@w3"),
            event("task-failed", "7f3ac91e-0000-4000-8000-000000000000", T0 + 7, host="celery@w3",
                  exception="Timeout('db at 10.0.0.1')", runtime=6.0),
        ],
    )  # fmt: skip
    id = "7f3ac91e-0000-4000-8000-000000000000"
    return TaskRow(time_key(T0), id, "FAILURE", "img.resize", "q", "celery@w3", None, encode(known))


@pytest.mark.parametrize(
    "line",
    [
        "anna TIMEOUT", "GRÖSSE OR größe", "kwargs:user_id=5", "kwargs:tag=x-9", 'args:"\'anna\'"', "worker:w3",
        "worker:celery@w*", "runtime:>5s", "runtime:6s", "wait:2s..4s", "total:>8s", "since:2h", "until:30min",
        "7f3ac9", "id:7f3ac91e", "img", "resize -bob", "state:failed (bob OR anna)", "exception:timeout", "retries:0",
        "10.0.0.1", "root:7f3ac91e-0000-4000-8000-000000000000", "NOT (state:ok OR queue:none)",
        f"fault:{FAULT}", f"-fault:{FAULT[:-1]}",
    ],
)  # fmt: skip
def test_what_a_row_is_found_by(line: str) -> None:
    """Each line finds the row, and its negation does not."""
    found, row = parse(line), Looked(_row())
    assert found.faults == ()
    assert matches(found.root, row, NOW)
    assert not matches(Not(found.root), row, NOW)


@pytest.mark.parametrize(
    "line",
    ["bob", "kwargs:user_id=55", "kwargs:id=5", "args:timeout", "worker:w", "runtime:<6s", "memory:>0b", "id:ac91",
     "retries:>0", "since:30min", "wait:<1s", "img.resiz*e AND anna -timeout", f"fault:{FAULT[:-1]}"],
)  # fmt: skip
def test_what_a_row_is_not_found_by(line: str) -> None:
    """Near misses."""
    assert not matches(parse(line).root, Looked(_row()), NOW)


def test_unknown_values_are_searchable() -> None:
    """``none`` stands for what no event told."""
    assert search.parse("type:none", NOW).accepts("type", None)
    assert not search.parse("type:none", NOW).accepts("type", "a")
    assert search.parse("-type:none", NOW).accepts("type", "a")


def test_facets_know_when_they_are_exact() -> None:
    """Names alone are counted, anything else is not."""
    counts = FacetCounts({("SUCCESS", "a", None, "celery@w3"): 3, ("FAILURE", "b", "q", "celery@w4"): 2})
    assert counts.total(search.parse("worker:w3", NOW)) == 3
    assert counts.total(search.parse("-worker:w3", NOW)) == 2
    assert counts.facets(search.parse("type:a,b", NOW), 5).exact
    assert not counts.facets(search.parse("type:a since:2h", NOW), 5).exact
