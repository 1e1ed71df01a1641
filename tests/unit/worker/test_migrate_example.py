"""examples/migrate_from_celery: only the imports differ, and it all runs."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq.core.registry import PROCESS
from opsq.errors import Reject
from opsq.testing.harness import running_worker

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "migrate_from_celery"


def test_only_the_imports_differ() -> None:
    before = (FOLDER / "tasks_with_celery.py").read_text()
    after = (FOLDER / "tasks.py").read_text()
    assert re.sub(r"(?m)^(from|import) celery", r"\1 opsq", before) == after
    assert len(re.findall(r"(?m)^@(app\.task|shared_task)", after)) == 15


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, on the embedded broker, its worker running."""
    monkeypatch.chdir(tmp_path)
    name = "shop_of_the_example"
    source = (FOLDER / "tasks.py").read_text()
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(PROCESS, "_shared", list(PROCESS.shared()))  # or apps of later tests would have its tasks too
    module = importlib.import_module(name)
    try:
        with running_worker(module.app, pool="threads", concurrency=4):
            yield module
    finally:
        module.app.close()
        PROCESS.remove_app(module.app)


def test_it_all_runs(shop: Any) -> None:
    results = {name: (work.apply_async(), expected) for name, (work, expected) in shop.workflows().items()}
    assert {name: result.get(timeout=30) for name, (result, _) in results.items()} == {
        name: expected for name, (_, expected) in results.items()
    }
    asked = shop.whoami.delay()
    assert shop.later(asked.id) == {"id": asked.id, "retries": 0, "name": shop.whoami.name}
    assert shop.unsteady.delay(2).get(timeout=30) == 2
    assert shop.retried_by_itself.delay().get(timeout=30) == "at last"
    assert shop.hopeless.delay().get(timeout=30) == "gave up"
    assert shop.import_rows.delay([1, 2, 3]).get(timeout=30) == 3
    shop.mail.delay("somebody")
    with pytest.raises(ValueError, match="why"):
        shop.fails.apply_async(("why",), link_error=shop.on_failure.s()).get(timeout=30)
    shop.skipped.delay()
    with pytest.raises(Reject):
        shop.refused.delay().get(timeout=30)
    with pytest.raises(KeyError):
        shop.price.delay("nothing").get(timeout=30)
