"""What people see when they get it wrong: one sentence that says what to do, and an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.runner import opsq


def said(done: object) -> str:
    return done.stderr.strip()  # type: ignore[attr-defined]


def test_unknown_command_suggests_the_near_one(tmp_path: Path) -> None:
    done = opsq("wroker", cwd=tmp_path)
    assert done.returncode == 64
    assert "There is no command 'wroker'. Did you mean 'worker'?" in said(done)


def test_unknown_option_suggests_the_near_one(tmp_path: Path) -> None:
    done = opsq("worker", "--concurency", "3", cwd=tmp_path)
    assert done.returncode == 64
    assert "--concurency" in said(done)
    assert "--concurrency" in said(done)


def test_worker_without_an_app_says_how_to_name_it(tmp_path: Path) -> None:
    done = opsq("worker", cwd=tmp_path)
    assert done.returncode == 64
    assert "opsq worker -A module:app" in said(done)


def test_missing_app_module_names_it(tmp_path: Path) -> None:
    done = opsq("worker", "-A", "nowhere.tasks", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in said(done)
    assert "Traceback" not in said(done)


def test_error_inside_the_app_module_shows_its_cause(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import not_a_library_of_this_world\n")
    done = opsq("worker", "-A", "broken", cwd=tmp_path)
    assert done.returncode == 2
    assert "not_a_library_of_this_world" in said(done)


def test_all_wrong_settings_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "opsq.toml").write_text('worker_concurency = 3\ntask_time_limit = "soon"\n')
    done = opsq("report", "--set", "web_port=99999999", cwd=tmp_path)
    assert done.returncode == 2
    assert "worker_concurency" in said(done)
    assert "worker_concurrency" in said(done)
    assert "task_time_limit" in said(done)
    assert "web_port" in said(done)
    assert "opsq.toml" in said(done)


def test_unreachable_broker_is_one_sentence_without_the_password(tmp_path: Path) -> None:
    done = opsq("call", "x.y", "-b", "redis://:hunter2@127.0.0.1:1/0", cwd=tmp_path)
    assert done.returncode == 69
    assert "127.0.0.1:1" in said(done)
    assert "hunter2" not in said(done)
    assert "Traceback" not in said(done)


def test_unknown_broker_scheme_says_which_there_are(tmp_path: Path) -> None:
    done = opsq("call", "x.y", "-b", "redsi://localhost", cwd=tmp_path)
    assert done.returncode == 2
    assert "redsi" in said(done)
    assert "redis" in said(done)


@pytest.mark.parametrize("text", ["{", "[1, 2", '{"a": 1}'])
def test_call_arguments_that_are_not_a_json_list(tmp_path: Path, text: str) -> None:
    done = opsq("call", "x.y", "-a", text, cwd=tmp_path)
    assert done.returncode == 64
    assert "--args '[1, 2]'" in said(done)


def test_hard_limit_on_threads_is_refused_at_boot(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("from opsq import Opsq\napp = Opsq('hello')\n@app.task\ndef f(): ...\n")
    done = opsq("worker", "-A", "hello", "-P", "threads", "--time-limit", "5", cwd=tmp_path)
    assert done.returncode == 2
    assert "hard time limit" in said(done)
    assert "prefork" in said(done)


def test_every_command_has_help_with_an_example(tmp_path: Path) -> None:
    for name in ("up", "worker", "monitor", "call", "result", "purge"):
        done = opsq(name, "--help", cwd=tmp_path)
        assert done.returncode == 0, name
        assert f"opsq {name}" in done.stdout, name
        assert "Example" in done.stdout, name
