"""saferepr: equal to repr for small values, bounded and unfailing for the rest."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.wire.saferepr import saferepr


class Rude:
    """Has a repr that raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value", [(), {}, (2, 2), {"a": 1, "b": None}, [1, "x", 2.5], (1,), {1, 2}, "text", b"\xff", 5]
)
def test_small_values_are_repr(value: object) -> None:
    assert saferepr(value) == repr(value)


anything = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.floats() | st.builds(Rude),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner) | st.frozensets(st.integers()),
)


@given(value=anything, maxlen=st.integers(0, 60), maxlevels=st.integers(0, 4))
def test_length_is_bounded_and_nothing_raises(value: object, maxlen: int, maxlevels: int) -> None:
    assert len(saferepr(value, maxlen, maxlevels)) <= maxlen


def test_nesting_is_bounded() -> None:
    assert saferepr([[[["deep"]]]]) == "[[[[...]]]]"
    assert saferepr({"a": {"b": {"c": {"d": 1}}}}) == "{'a': {'b': {'c': {...}}}}"


def test_long_text_is_cut_inside_the_quotes() -> None:
    text = saferepr(["x" * 5000], maxlen=50)
    assert len(text) == 50
    assert text.startswith("['xxx")
    assert text.endswith("...")


def test_values_that_misbehave() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert saferepr(loop) == "[[...]]"
    assert saferepr((Rude(),)) == "(<unrepresentable Rude: RuntimeError>,)"
    assert saferepr([10**5000]) == "[<int of 16610 bits>]"


@pytest.mark.parametrize(
    "make",
    [
        lambda: list(range(10**6)),
        lambda: "x" * 10**7,
        lambda: {"k": dict.fromkeys(range(10**6))},
        lambda: OrderedDict.fromkeys(range(10**6)),
        lambda: deque(range(10**6)),
    ],
    ids=["list", "text", "dict", "OrderedDict", "deque"],
)
def test_large_values_are_not_written_out(make: Callable[[], object]) -> None:
    assert len(saferepr(make())) <= 1024
