"""Shapes of workflows and what must come of them; runs in the client's process, under either library.

``SHAPES``: name → what makes the workflow, and the value of its last task, or the error it raises.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from cases import raising, same, until, value_of


class Fails(NamedTuple):
    """The names of the errors that may come."""

    kinds: tuple[str, ...]


Made = tuple[Any, Any]
SHAPES: dict[str, Callable[[Any], Made]] = {}
BROKEN = Fails(("ValueError",))
#: Celery's client raises the error of the header's member when it looks at the parents first.
CHORD_BROKEN = Fails(("ChordError", "ValueError"))


def shape(function: Callable[[Any], Made]) -> Callable[[Any], Made]:
    """Put a shape into the table."""
    SHAPES[function.__name__] = function
    return function


def of(m: Any) -> tuple[Any, Any, Any, Any, Any]:
    """The names that all shapes are made of."""
    return m.add, m.total, m.library.chain, m.library.group, m.library.chord


def canvas_shape(m: Any, name: str) -> None:
    """Publish one shape and compare."""
    workflow, expected = SHAPES[name](m)
    result = workflow.apply_async()
    if isinstance(expected, Fails):
        with raising(expected.kinds):
            value_of(result)
        return
    same(value_of(result), expected)


# ---- chains


@shape
def chain_of_three(m: Any) -> Made:
    a, *_ = of(m)
    return a.s(1, 2) | a.s(3) | a.s(4), 10


@shape
def chain_with_an_immutable_step(m: Any) -> Made:
    a, *_ = of(m)
    return a.s(1, 2) | a.si(5, 6) | a.s(1), 12


@shape
def chain_in_chain(m: Any) -> Made:
    a, _, chain, *_ = of(m)
    return chain(a.s(1, 2), chain(a.s(3), a.s(4)), a.s(5)), 15


@shape
def long_chain(m: Any) -> Made:
    a, _, chain, *_ = of(m)
    return chain(a.s(0, 0), *(a.s(1) for _ in range(40))), 40


@shape
def chain_with_keywords(m: Any) -> Made:
    a, *_ = of(m)
    return a.s(1, 2) | m.echo.s(more=1), {"value": 3, "more": 1}


# ---- groups


@shape
def group_of_five(m: Any) -> Made:
    a, _, _, group, _ = of(m)
    return group(a.s(n, n) for n in range(5)), [0, 2, 4, 6, 8]


@shape
def group_in_group(m: Any) -> Made:
    a, _, _, group, _ = of(m)
    return group(a.s(1, 1), group(a.s(2, 2), group(a.s(3, 3), a.s(4, 4)))), [2, 4, 6, 8]


@shape
def chains_in_group(m: Any) -> Made:
    a, _, _, group, _ = of(m)
    return group(a.s(1, 1) | a.s(10), a.s(2, 2), a.s(3, 3) | a.s(10) | a.s(100)), [12, 4, 116]


@shape
def chord_in_group(m: Any) -> Made:
    a, total, _, group, chord = of(m)
    return group(chord([a.s(1, 1), a.s(2, 2)], total.s()), a.s(5, 5)), [6, 10]


@shape
def group_of_one(m: Any) -> Made:
    a, _, _, group, _ = of(m)
    return group([a.s(1, 1)]), [2]


@shape
def group_at_the_end(m: Any) -> Made:
    a, _, _, group, _ = of(m)
    return a.s(1, 2) | group(a.s(10), a.s(20)), [13, 23]


@shape
def large_group(m: Any) -> Made:
    a, _, _, group, _ = of(m)
    return group(a.s(n, 1) for n in range(300)), list(range(1, 301))


# ---- chords


@shape
def chord_of_three(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(n, n) for n in range(3)], total.s()), 6


@shape
def chord_keeps_the_order(m: Any) -> Made:
    a, _, _, _, chord = of(m)
    return chord([a.s(n, 0) for n in range(30)], m.echo.s()), list(range(30))


@shape
def chord_of_one(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(1, 1)], total.s()), 2


@shape
def chord_with_immutable_body(m: Any) -> Made:
    a, _, _, _, chord = of(m)
    return chord([a.s(1, 1), a.s(2, 2)], a.si(7, 7)), 14


@shape
def group_then_task(m: Any) -> Made:
    a, total, _, group, _ = of(m)
    return group(a.s(1, 1), a.s(2, 2)) | total.s(), 6


@shape
def group_of_one_then_task(m: Any) -> Made:
    a, _, chain, group, _ = of(m)
    return chain(group([a.s(1, 1)]), a.s(5)), 7


@shape
def task_group_task(m: Any) -> Made:
    a, total, _, group, _ = of(m)
    return a.s(1, 1) | group(a.s(1), a.s(2)) | total.s(), 7


@shape
def task_group_task_task(m: Any) -> Made:
    a, total, _, group, _ = of(m)
    return a.s(1, 1) | group(a.s(1), a.s(2)) | total.s() | a.s(100), 107


@shape
def group_group_task(m: Any) -> Made:
    a, total, chain, group, _ = of(m)
    return chain(group(a.s(1, 1), a.s(2, 2)), group(total.s(), total.s()), total.s()), 12


@shape
def groups_and_tasks_in_turn(m: Any) -> Made:
    a, total, chain, group, _ = of(m)
    pair = [a.s(1), a.s(2)]
    return chain(a.s(0, 1), group(pair), total.s(), group(pair), total.s(), group(pair), total.s()), 29


@shape
def chord_then_task(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(1, 1), a.s(2, 2)], total.s()) | a.s(10), 16


@shape
def chord_then_group(m: Any) -> Made:
    a, total, _, group, chord = of(m)
    return chord([a.s(1, 1), a.s(2, 2)], total.s()) | group(a.s(1), a.s(2)), [7, 8]


@shape
def chord_in_chain(m: Any) -> Made:
    a, total, chain, _, chord = of(m)
    return chain(a.s(1, 1), chord([a.s(1), a.s(2)], total.s()), a.s(10)), 17


@shape
def chord_with_chain_body(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(1, 1), a.s(2, 2)], total.s() | a.s(10) | a.s(100)), 116


@shape
def chord_with_group_body(m: Any) -> Made:
    a, total, _, group, chord = of(m)
    return chord([a.s(1, 1), a.s(2, 2)], group(total.s(), m.echo.s())), [6, [2, 4]]


@shape
def chord_with_chord_body(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(1, 1), a.s(2, 2)], chord([total.s(), total.s()], total.s())), 12


@shape
def chains_in_header(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(1, 1) | a.s(10), a.s(2, 2), a.s(3, 3) | a.s(1) | a.s(1)], total.s()), 24


@shape
def chord_in_header(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([chord([a.s(1, 1), a.s(2, 2)], total.s()), a.s(3, 3)], total.s()), 12


@shape
def chord_in_chain_in_header(m: Any) -> Made:
    a, total, chain, _, chord = of(m)
    return chord([chain(a.s(1, 1), chord([a.s(1), a.s(2)], total.s())), a.s(3, 3)], total.s()), 13


@shape
def group_in_chain_in_header(m: Any) -> Made:
    a, _, chain, group, chord = of(m)
    return chord([chain(a.s(1, 1), group(a.s(1), a.s(2)))], m.echo.s()), [[3, 4]]


@shape
def group_in_header(m: Any) -> Made:
    a, total, _, group, chord = of(m)
    return chord(group(a.s(1, 1), group(a.s(2, 2), a.s(3, 3))), total.s()), 12


@shape
def three_levels_of_chords(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    inner = chord([a.s(1, 1), a.s(2, 2)], total.s())
    middle = chord([inner, inner.clone()], total.s())
    return chord([middle, a.s(1, 1)], total.s()), 14


@shape
def large_chord(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(n, 0) for n in range(200)], total.s()), sum(range(200))


@shape
def chord_of_a_generator(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord((a.s(n, 0) for n in range(20)), total.s()), 190


@shape
def empty_header(m: Any) -> Made:
    _, total, _, _, chord = of(m)
    return chord([], total.s()), 0


# ---- maps


@shape
def task_map(m: Any) -> Made:
    return m.total.map([[1, 2], [3, 4]]), [3, 7]


@shape
def task_starmap(m: Any) -> Made:
    return m.add.starmap([(1, 2), (3, 4)]), [3, 7]


@shape
def task_chunks(m: Any) -> Made:
    return m.add.chunks([(n, n) for n in range(5)], 2).group(), [[0, 2], [4, 6], [8]]


# ---- replacement


@shape
def replaced_by_a_chain(m: Any) -> Made:
    return m.replaced_by_chain.s(1) | m.add.s(100), 112


@shape
def replaced_by_a_group(m: Any) -> Made:
    return m.replaced_by_group.s(1), [2, 3]


@shape
def replaced_by_a_chord(m: Any) -> Made:
    return m.replaced_by_chord.s(1) | m.add.s(100), 105


@shape
def replaced_in_a_header(m: Any) -> Made:
    _, total, _, _, chord = of(m)
    return chord([m.replaced.s(1), m.replaced_by_chain.s(1), m.add.s(1, 1)], total.s()), 16


@shape
def header_that_grows(m: Any) -> Made:
    _, total, _, _, chord = of(m)
    return chord([m.one_more_part.s(1), m.add.s(1, 1)], total.s()), 104


@shape
def retry_in_a_header(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([m.third_time.si(), a.s(1, 1)], total.s()), 4


# ---- errors at each position


@shape
def error_at_the_start_of_a_chain(m: Any) -> Made:
    return m.boom.si() | m.add.s(1) | m.add.s(1), BROKEN


@shape
def error_in_the_middle_of_a_chain(m: Any) -> Made:
    return m.add.s(1, 1) | m.boom.si() | m.add.s(1), BROKEN


@shape
def error_in_a_group(m: Any) -> Made:
    return m.library.group(m.add.s(1, 1), m.boom.s()), BROKEN


@shape
def error_in_a_header(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(1, 1), m.boom.s(), a.s(2, 2)], total.s()), CHORD_BROKEN


@shape
def error_in_a_body(m: Any) -> Made:
    a, _, _, _, chord = of(m)
    return chord([a.s(1, 1), a.s(2, 2)], m.boom.si()), BROKEN


@shape
def error_before_a_chord(m: Any) -> Made:
    a, total, chain, group, _ = of(m)
    return chain(m.boom.si(), group(a.s(1), a.s(2)), total.s()), BROKEN


@shape
def error_in_a_chain_in_a_header(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([a.s(1, 1) | m.boom.si() | a.s(1), a.s(2, 2)], total.s()), CHORD_BROKEN


@shape
def error_in_an_inner_header(m: Any) -> Made:
    a, total, _, _, chord = of(m)
    return chord([chord([m.boom.s(), a.s(1, 1)], total.s()), a.s(2, 2)], total.s()), CHORD_BROKEN


# ---- more than a value


def canvas_errback_of_a_chord(m: Any) -> None:
    """The body's error callback is called with the body's id."""
    id = str(uuid.uuid4())
    body = m.total.s().on_error(m.errback_as_message.s().set(task_id=id))
    result = m.library.chord([m.boom.s(), m.add.s(1, 1)], body).apply_async()
    same(value_of(m.app.AsyncResult(id)), result.id)


def canvas_link_of_a_chord(m: Any) -> None:
    """A chord's callback gets what the body returned."""
    id = str(uuid.uuid4())
    chord = m.library.chord([m.add.s(1, 1), m.add.s(2, 2)], m.total.s())
    chord.link(m.add.s(10).set(task_id=id))
    chord.apply_async()
    same(value_of(m.app.AsyncResult(id)), 16)


def canvas_parents(m: Any) -> None:
    """The results before the last are its parents."""
    result = (m.add.s(1, 1) | m.library.group(m.add.s(1), m.add.s(2)) | m.total.s()).apply_async()
    same(value_of(result), 7)
    same([value_of(each) for each in result.parent.results], [3, 4])
    same(value_of(result.parent.parent), 2)


def canvas_saved_group(m: Any) -> None:
    """A group is saved and restored by its id."""
    result = m.library.group(m.add.s(n, n) for n in range(3)).apply_async()
    result.save()
    restored = m.app.GroupResult.restore(result.id, app=m.app)
    same(value_of(restored), [0, 2, 4])
    restored.delete()
    same(m.app.GroupResult.restore(result.id, app=m.app), None)


def canvas_revoked_member(m: Any) -> None:
    """A header member that is revoked fails the chord."""
    late = m.add.s(1, 1).set(countdown=3, task_id=str(uuid.uuid4()))
    result = m.library.chord([m.add.s(1, 1), late], m.total.s()).apply_async()
    until(lambda: result.parent.results[0].ready(), "the first member")
    m.app.control.revoke(late.options["task_id"])
    with raising(("ChordError", "TaskRevokedError")):
        value_of(result)


def canvas_names(m: Any) -> list[str]:
    """What there is to run."""
    return list(SHAPES)
