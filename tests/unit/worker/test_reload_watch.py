"""Which edits count, and what is said of code that does not compile."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq.core.worker.reload_link import own_files
from opsq.core.worker.reload_watch import Watch, edited_since, wrong_syntax
from opsq.errors import ConfigError

PATIENCE_S = 10.0


class Ear:
    """A watch, and what it told."""

    def __init__(self, chosen: list[Path], ignored: list[Path]) -> None:
        self.told: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
        self.watch = Watch(self.told.put, [str(path) for path in chosen], [str(path) for path in ignored])
        self.watch.start()

    def next(self) -> set[str]:
        return {os.path.basename(path) for path in self.told.get(timeout=PATIENCE_S)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("shop/tasks.py", "shop/other.py", "rules/prices.toml", "rules/data/broker.db"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("A = 1\n")
    return tmp_path


@pytest.fixture
def ear(project: Path) -> Iterator[Ear]:
    made = Ear([project / "rules"], [project / "rules" / "data"])
    made.watch.modules([str(project / "shop" / "tasks.py")])
    yield made
    made.watch.stop()


def test_an_edited_module_counts_and_one_that_nobody_imported_does_not(project: Path, ear: Ear) -> None:
    (project / "shop" / "other.py").write_text("A = 2\n")
    (project / "shop" / "tasks.py").write_text("A = 2\n")
    assert ear.next() == {"tasks.py"}


def test_a_file_that_is_replaced_or_removed_counts(project: Path, ear: Ear) -> None:
    beside = project / "shop" / "tasks.new"
    beside.write_text("A = 3, 3\n")
    beside.replace(project / "shop" / "tasks.py")
    assert ear.next() == {"tasks.py"}
    (project / "shop" / "tasks.py").unlink()
    assert ear.next() == {"tasks.py"}


def test_several_steps_of_one_edit_are_told_together(project: Path, ear: Ear) -> None:
    ear.watch.modules([str(project / "shop" / "other.py")])
    for name in ("tasks.py", "other.py"):
        (project / "shop" / name).write_text("A = 44\n")
    assert ear.next() == {"tasks.py", "other.py"}


def test_a_touch_is_no_edit_of_a_module_but_a_chmod_neither(project: Path, ear: Ear) -> None:
    (project / "shop" / "tasks.py").chmod(0o600)
    (project / "rules" / "prices.toml").write_text("B = 1\n")
    assert ear.next() == {"prices.toml"}


def test_below_a_chosen_path_everything_counts_but_what_is_ignored(project: Path, ear: Ear) -> None:
    (project / "rules" / "data" / "broker.db").write_text("changes all the time\n")
    (project / "rules" / ".prices.toml.swp").write_text("an editor's own\n")
    (project / "rules" / "new.toml").write_text("C = 1\n")
    assert ear.next() == {"new.toml"}


def test_what_was_edited_before_it_was_watched_is_found(project: Path, ear: Ear) -> None:
    other = project / "shop" / "other.py"
    new = ear.watch.modules([str(other), str(project / "shop" / "tasks.py")])
    assert new == {str(other)}
    at = other.stat().st_mtime
    assert edited_since(new, at - 1.0) == {str(other)}
    assert edited_since(new, at + 1.0) == set()


def test_a_chosen_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*absent \(from worker_autoreload_paths\)"):
        Ear([tmp_path / "absent"], [])


def test_wrong_syntax_is_told_with_file_and_line(tmp_path: Path) -> None:
    good, bad, null = (tmp_path / name for name in ("good.py", "bad.py", "null.py"))
    good.write_text("x = 1\n")
    bad.write_text("x = 1\ndef f(:\n    pass\n")
    null.write_bytes(b"x = '\0'\n")
    absent, other = tmp_path / "absent.py", tmp_path / "notes.txt"
    other.write_text("not (python")
    found = wrong_syntax(map(str, (good, bad, null, absent, other)))
    assert set(found) == {str(bad), str(null)}
    assert found[str(bad)].startswith(f"{bad}:2: SyntaxError: ")


def test_ones_own_modules_are_neither_installed_ones_nor_opsqs() -> None:
    here = Path(__file__).resolve()
    mine = own_files([here.parents[3]])
    assert str(here) in mine
    assert not [path for path in mine if "site-packages" in path or "/opsq/core/" in path]
    assert own_files([here.parent / "absent"]) == set()
