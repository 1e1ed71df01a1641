"""A group made by a generator costs its publisher the same memory however large it is."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from opsq import Opsq, group
from opsq.broker.message import OutMessage
from opsq.core.progress import progress_of

SIZES = (10_000, 100_000) if os.environ.get("CHAOS") == "full" else (1_000, 5_000)


class Nowhere:
    """A publisher that forgets what it is given."""

    def publish_many(self, messages: Sequence[OutMessage], **_how: Any) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing is open."""


def peak_bytes(app: Opsq, size: int) -> int:
    """The most that was allocated at once while publishing a group of ``size``."""
    work = app.tasks["work"]
    tracemalloc.start()
    try:
        result = group(work.s(number) for number in range(size)).apply_async()
        assert len(result) == size
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_group() -> None:
    app = Opsq("shop", broker="memory://", backend="memory://", set_as_current=False)
    app.task(name="work")(lambda number: number)
    app.finalize()
    app._wired().__dict__["publisher"] = Nowhere()
    # When the collector happens to run moves the peak of one run by half, whatever its size.
    small = max(peak_bytes(app, SIZES[0]) for _ in range(5))
    large = peak_bytes(app, SIZES[1])
    assert large <= 1.2 * small


def test_progress_is_shown_on_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    assert list(progress_of(True)([])) == []
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(progress_of(True)([])) == []
    assert "0 tasks published" in capsys.readouterr().err
