"""``opsq why`` says what it did not find out, and does not claim to have looked where it could not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.testing.harness import running_worker
from tests.cli.runner import opsq

NOBODY = "redis://127.0.0.1:1/0"


def why(folder: Path, id: str, *words: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of ``opsq why ID --json``."""
    done = opsq("why", id, "--json", *words, cwd=folder, **environment)
    return done.returncode, json.loads(done.stdout)


def test_nothing_known_says_where_it_looked(tmp_path: Path) -> None:
    code, told = why(tmp_path, "c0ffee", "--no-ask")
    assert code == 69
    assert "the workers were not asked" in told["help"]
    code, told = why(tmp_path, "c0ffee", "-b", NOBODY)
    assert code == 69
    assert "could not be asked" in told["help"]
    assert "no worker has it" not in told["help"]


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[str]:
    """The id of a call that waits for its time with a worker; results go to a store that is away."""
    app = Opsq("shop", data_dir=str(tmp_path / ".opsq"), set_as_current=False)

    @app.task(name="shop.later")
    def later() -> None: ...

    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = later.apply_async(countdown=3600)
        worker.wait("received", result.id)
        yield result.id
    app.close()


def test_a_result_store_that_is_away_is_said(tmp_path: Path, waiting: str) -> None:
    _, told = why(tmp_path, waiting, OPSQ_RESULT_BACKEND=NOBODY)
    assert [lack for lack in told["lacks"] if lack.startswith("the result store did not answer")], told
