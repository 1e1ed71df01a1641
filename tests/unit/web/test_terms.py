"""The search line is taken apart into chips and put together again without loss."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opsq.web.terms import Term, parse
from opsq.web.view_common import Ask, Places, parse_ask, quoted, row_id

NOW = 1_790_000_000.0


def test_terms_become_chips_and_words_stay_text() -> None:
    found = parse("queue:images -type:*.optimize time out", NOW)
    assert found.terms == (Term("queue", "images"), Term("-type", "*.optimize"))
    assert found.text == "time out"
    assert found.search.accepts("queue", "images")
    assert not found.search.accepts("queue", "mail")


def test_a_faulty_term_stays_text() -> None:
    found = parse("queue:images stte:failed", NOW)
    assert found.terms == (Term("queue", "images"),)
    assert found.text == "stte:failed"
    assert found.fault is not None
    assert found.fault.position == 13


def test_a_facet_sets_and_frees_its_field() -> None:
    found = parse("queue:images hello", NOW)
    assert found.with_value("queue", "mail") == "queue:mail hello"
    assert found.with_value("queue", "") == "hello"
    assert found.with_value("type", 'a "b"') == 'queue:images type:"a \\"b\\"" hello'
    assert found.without(found.terms[0]) == "hello"


@given(st.text(max_size=200))
def test_no_line_is_too_strange(line: str) -> None:
    assert parse(line, NOW).source == line


@given((st.text(min_size=1, max_size=40) | st.text('ab ()"\\:*-', min_size=1)).filter(lambda value: "," not in value))
def test_what_a_facet_writes_is_read_back(value: str) -> None:
    """A comma stands between values of which one is to be met, so a value has none."""
    term = Term("queue", value)
    found = parse(str(term), NOW)
    assert (found.fault, found.terms) == (None, (term,))


def test_nonsense_in_the_url_falls_back() -> None:
    ask = parse_ask("tasks", {"range": "zz", "before": "-1", "p": "42", "q": "  a   b "}, {"opsq_theme": "pink"})
    assert ask == Ask(page="tasks", q="a b")
    assert parse_ask("tasks", {"before": "9" * 30}, {}).before is None


def test_places_escape_what_tasks_call_themselves() -> None:
    places = Places("/ops")
    assert places.task("a/b?c#d") == "/ops/tasks/a%2Fb%3Fc%23d"
    assert places.search(queue="a b") == "/ops/tasks?q=queue%3A%22a+b%22"
    assert quoted("") == '""'
    assert row_id('"><script>').startswith("t-")
    assert row_id("x") == row_id("x") != row_id("y")
