"""How a child comes by its runner: by name, by a pickled object, from the main script; and how it fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from opsq.core.pools.base import PoolConfig
from opsq.core.pools.prefork import PreforkPool
from opsq.core.pools.prefork_main import describe_main, pack_setup
from opsq.core.pools.prefork_records import MainModule
from opsq.errors import ConfigError
from tests.promises import within


def test_a_callable_is_pickled_and_preloaded_once(harness, tmp_path):
    program = MAIN.format(path=[os.path.dirname(__file__), os.getcwd()], setup="prefork_stub.Preloading('x')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "SUCCESS\n", done.stderr


def test_a_name_that_does_not_exist_is_said_at_start(harness):
    pool = harness.pool(setup="prefork_stub:biuld", start=False)
    with pytest.raises(ConfigError, match="biuld"):
        pool.start()


def test_an_app_that_fails_in_the_child_is_shown_with_its_traceback(harness):
    pool = harness.pool(setup="prefork_stub:broken", start=False)
    with pytest.raises(ConfigError, match="the stub's set-up failed on purpose"):
        pool.start()
    assert not harness.family()


def test_a_callable_that_only_lives_here_is_refused_in_one_sentence(harness):
    with pytest.raises(ConfigError, match=r"cannot hand .* to its child processes.*--pool threads"):
        harness.pool(setup=lambda: None, start=False)


def test_no_set_up_at_all_is_refused():
    with pytest.raises(ConfigError, match="child_setup"):
        PreforkPool(PoolConfig(slots=1, run=None, on_started=print, on_outcomes=print))


def test_an_interactive_session_is_refused(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", "<stdin>", raising=False)
    with pytest.raises(ConfigError, match="interactive session"):
        pack_setup("__main__:build")


def test_main_is_described_by_module_or_by_file(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", "hello.py", raising=False)
    assert describe_main() == MainModule(path=os.path.abspath("hello.py"))


MAIN = """
import sys, threading
sys.path[:0] = {path!r}
import prefork_stub
from opsq.core.pools.base import Job, PoolConfig
from opsq.core.pools.prefork import PreforkPool

def build():
    return prefork_stub.StubRunner()

def main():
    ended = threading.Event()
    def heard(outcomes):
        print(*(outcome.state for outcome in outcomes), flush=True)
        ended.set()
    setup = {setup}
    pool = PreforkPool(PoolConfig(slots=1, run=None, on_started=lambda *_: None, on_outcomes=heard, child_setup=setup))
    pool.start()
    pool.submit(Job(1, "1", "noop", {{}}, b"", "", "", {{}}, {{}}))
    ended.wait(10)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("setup", ["build", "'__main__:build'"])
@pytest.mark.parametrize("how", ["file", "module"])
def test_an_app_in_the_main_script_works(tmp_path, setup, how):
    """``python hello.py worker``: what the script defines is found again in the children."""
    program = MAIN.format(path=[os.path.dirname(__file__), os.getcwd()], setup=setup)
    (tmp_path / "hello.py").write_text(program)
    command = ["hello.py"] if how == "file" else ["-m", "hello"]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "SUCCESS\n", done.stderr


def test_a_script_that_starts_its_worker_unguarded_is_told_what_to_do(tmp_path):
    program = MAIN.format(path=[os.path.dirname(__file__), os.getcwd()], setup="build")
    (tmp_path / "hello.py").write_text(program.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run(
        [sys.executable, "hello.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "if __name__ == '__main__'" in done.stderr
    assert "again" in done.stderr


def test_the_first_child_is_up_within_a_quarter_of_a_second_of_the_import(harness):
    begun = time.monotonic()
    pool = harness.pool(slots=2)
    harness.full(pool, 2)
    spent_s = time.monotonic() - begun
    imported_s = pool.stats()["app-load-seconds"]
    assert spent_s - imported_s < within(1.0), "0.06 s on a quiet machine"
