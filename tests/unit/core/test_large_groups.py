"""A group made by a generator costs its publisher the same memory however large it is; a bar tells how far it is."""

from __future__ import annotations

import gc
import os
import pty
import select
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from opsq import Opsq, chord, group
from opsq.broker.message import OutMessage
from opsq.core.progress import _Line

SIZES = (10_000, 100_000) if os.environ.get("CHAOS") == "full" else (1_000, 5_000)


class Nowhere:
    """A publisher that forgets what it is given."""

    def publish_many(self, messages: Sequence[OutMessage], **_how: Any) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def app() -> Iterator[Opsq]:
    """An app whose calls go nowhere."""
    found = Opsq("shop", broker="memory://", backend="memory://", set_as_current=False)
    found.task(name="work")(lambda number: number)
    found.task(name="total")(lambda numbers: sum(numbers))
    found.finalize()
    found._wired().__dict__["publisher"] = Nowhere()
    yield found
    found.close()


def numbers(app: Opsq, size: int) -> Iterator[Any]:
    """So many calls, made one after the other."""
    return (app.tasks["work"].s(number) for number in range(size))


def peak_bytes(app: Opsq, size: int) -> int:
    """The most that was allocated at once while publishing a group of ``size``, without the collector's help."""
    gc.collect()
    gc.disable()  # when it happens to run moves the peak by half, whatever the size
    tracemalloc.start()
    try:
        result = group(numbers(app, size)).apply_async()
        assert len(result) == size
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()


def test_memory_does_not_grow_with_the_group(app: Opsq) -> None:
    peak_bytes(app, SIZES[0])  # what is made once and kept
    small, large = (peak_bytes(app, size) for size in SIZES)
    assert large <= 1.2 * small


@contextmanager
def terminal() -> Iterator[Callable[[str], str]]:
    """Standard error is a terminal for the block; a function that waits for a text and tells all that was shown."""
    outer, inner = pty.openpty()
    shown = ""

    def until(text: str) -> str:
        nonlocal shown
        while text not in shown and select.select([outer], [], [], 10)[0]:
            shown += os.read(outer, 100_000).decode()
        return shown

    with os.fdopen(inner, "w") as line, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", line)
        yield until
    os.close(outer)


WORKFLOWS: dict[str, tuple[Callable[[Opsq], Any], str]] = {
    "generator": (lambda app: group(numbers(app, 700)), "700 tasks published"),
    "list": (lambda app: group(list(numbers(app, 700))), "700 of 700 tasks published"),
    "chord of a generator": (lambda app: chord(numbers(app, 700), app.tasks["total"].s()), "700 tasks published"),
    "chord of a list": (lambda app: chord(list(numbers(app, 9)), app.tasks["total"].s()), "9 of 9 tasks published"),
}


@pytest.mark.parametrize("kind", WORKFLOWS)
def test_a_bar_is_shown_on_a_terminal(kind: str, app: Opsq) -> None:
    make, told = WORKFLOWS[kind]
    with terminal() as said:
        make(app).apply_async(progress=True)
        shown = said("\n")
    assert f"[{'=' * 24}] {told}" in shown
    assert shown.endswith("/s \r\n")


def test_a_bar_fills_with_the_share_that_is_published() -> None:
    with terminal() as said:
        bar = _Line(200)
        bar(50)
        wanted = f"\r[{('=' * 6).ljust(24)}] 50 of 200 tasks published"
        assert wanted in said(wanted)


def test_no_bar_is_shown_where_there_is_no_terminal(app: Opsq, capsys: pytest.CaptureFixture[str]) -> None:
    group(numbers(app, 5)).apply_async(progress=True)
    assert capsys.readouterr().err == ""


def test_a_function_is_told_the_number_so_far(app: Opsq) -> None:
    told: list[int] = []
    group(list(numbers(app, 3))).apply_async(progress=told.append)
    group(numbers(app, 2)).apply_async(progress=told.append)
    assert told == [1, 2, 3, 1, 2]
