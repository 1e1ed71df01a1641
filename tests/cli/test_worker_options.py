"""``opsq worker``: Celery's options, the guards at start, the health port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq import Opsq
from opsq.cli.celery_words import OLD, as_today
from opsq.core.worker.boot import refuse_root_with_pickle
from opsq.core.worker.pidfile import NodeName, PidFile, PidFileTaken
from opsq.core.worker.worker import Worker
from opsq.errors import ConfigError
from opsq.logs import file_name
from tests.cli.runner import PATIENCE_S, opsq
from tests.cli.worker_site import MODULE, WorkerSite, ask

CELERYS = (
    "-n w1@%h -l info -O fair --prefetch-multiplier 2 --disable-prefetch -c auto -P threads -E --purge -Q celery,mail "
    "-X mail --without-gossip --without-mingle --without-heartbeat --heartbeat-interval 5 --max-tasks-per-child 100 "
    "--max-memory-per-child 200000 --pool-start-method fork --soft-time-limit 0 --time-limit 0 -S state --explain"
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WorkerSite]:
    made = WorkerSite(tmp_path)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(MODULE)
    return tmp_path


def test_celerys_options_are_understood(folder: Path) -> None:
    done = opsq("worker", "-A", "shop", *CELERYS.split(), cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "owner" in done.stdout


def test_old_spellings_are_one_notice(folder: Path) -> None:
    done = opsq("worker", "-A", "shop", "--maxtasksperchild=5", "--events", "--explain", cwd=folder)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "opsq: --maxtasksperchild is now --max-tasks-per-child, --events is now --task-events"
    ]


def test_old_spellings_lead_to_options_that_exist(folder: Path) -> None:
    known = opsq("worker", "--help", cwd=folder).stdout
    assert [new for new in OLD.values() if new not in known] == []
    assert as_today(["-c", "2", "--", "--discard"]) == (["-c", "2", "--", "--discard"], [])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("--pidfle w.pid", "--pidfile"), ("-O quick", "'default', 'fair'"), ("--pool-start-method forkserver", "spawn")],
)
def test_a_wrong_option_says_what_there_is(folder: Path, wrong: str, words: str) -> None:
    done = opsq("worker", "-A", "shop", *wrong.split(), cwd=folder)
    assert done.returncode == 64
    assert words in done.stderr


@pytest.mark.parametrize("words", [("--umask", "rwx"), ("--uid", "nobody-of-this-name")])
def test_a_wrong_user_or_mask_is_one_sentence(folder: Path, words: tuple[str, str]) -> None:
    done = opsq("worker", "-A", "shop", *words, cwd=folder)
    assert done.returncode == 2
    assert words[1] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_root_becomes_user_group_and_mask(folder: Path) -> None:
    program = (
        "import os; from opsq.cli.detach import become; from opsq.settings_load import load; "
        "become(load(cli={'worker_uid': '65534', 'worker_gid': '65533', 'worker_umask': '027'}).settings, 'worker'); "
        "print(os.getresuid(), os.getresgid(), os.getgroups(), f'{os.umask(0):o}')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "(65534, 65534, 65534) (65533, 65533, 65533) [65533] 27\n"


def test_the_mask_holds_before_the_app_is_loaded(folder: Path) -> None:
    (folder / "shop.py").write_text(MODULE + "\nraise SystemExit(f'mask {os.umask(0):o}')")
    done = opsq("worker", "-A", "shop", "--umask", "027", cwd=folder)
    assert "mask 27" in done.stderr


def test_root_with_pickle_is_refused_in_one_sentence(tmp_path: Path) -> None:
    def settings(**more: object) -> object:
        return Opsq("x", data_dir=str(tmp_path), set_as_current=False, **more).settings

    risky = {"accept_content": ["json", "pickle"]}
    with pytest.raises(ConfigError, match="C_FORCE_ROOT") as refused:
        refuse_root_with_pickle(settings(**risky), user_id=0)  # type: ignore[arg-type]
    assert len(refused.value.faults) == 1
    refuse_root_with_pickle(settings(**risky), user_id=1000)  # type: ignore[arg-type]
    refuse_root_with_pickle(settings(), user_id=0)  # type: ignore[arg-type]
    refuse_root_with_pickle(settings(**risky, worker_allow_root_with_pickle=True), user_id=0)  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_root_with_pickle_exits_with_a_code_of_its_own(folder: Path) -> None:
    done = opsq("worker", "-A", "shop", "--set", "accept_content=json,pickle", cwd=folder)
    assert done.returncode == 2
    assert "C_FORCE_ROOT" in done.stderr


def test_two_hundred_tasks_are_two_lines_of_promises(tmp_path: Path) -> None:
    app = Opsq("shop", data_dir=str(tmp_path), set_as_current=False)
    for number in range(200):
        app.task(name=f"shop.t{number:03}", acks_late=bool(number % 4))(lambda: None)
    promises = Worker(app, pool="threads").promises().splitlines()
    assert len(promises) == 2
    assert promises[0].strip().startswith("at least once")
    assert promises[0].endswith("shop.t007 and 144 more")
    assert promises[1].endswith("and 44 more")
    app.close()


def test_a_stale_pid_file_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "w.pid"
    path.write_text("4194304\n")  # above the largest number Linux gives out
    with PidFile(str(path)):
        assert int(path.read_text()) == os.getpid()
        with pytest.raises(PidFileTaken, match=f"process {os.getpid()}, which runs"), PidFile(str(path)):
            pass
        assert path.exists()
    assert not path.exists()
    path.write_text(f"{os.getppid()}\n")  # alive, and a stranger: its number was used again
    if "opsq" not in Path(f"/proc/{os.getppid()}/cmdline").read_text():
        with PidFile(str(path)):
            assert int(path.read_text()) == os.getpid()
    with pytest.raises(PidFileTaken, match="cannot write"), PidFile(str(tmp_path / "no" / "w.pid")):
        pass


def test_a_second_worker_of_the_same_name_is_warned_about(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with NodeName("w1@host", tmp_path), NodeName("w2@host", tmp_path):
        assert not caplog.records
        with NodeName("w1@host", tmp_path):
            assert "-n" in caplog.text
    caplog.clear()
    with NodeName("w1@host", tmp_path):
        assert not caplog.records


def test_marks_in_file_names() -> None:
    assert file_name("/log/%n-%h%I.log", "w1@box.example.org") == "/log/w1-w1@box.example.org.log"
    assert file_name("%d%%", "w1@box.example.org") == "example.org%"


def test_the_health_port_tells_live_from_ready(site: WorkerSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = opsq("worker", "-A", "shop", "-P", "threads", "--health-port", str(port), cwd=site.folder)
        assert done.returncode == 73
        assert str(port) in done.stderr
    worker = site.start("-P", "threads", "--health-port", str(port), "--set", "worker_health_host=127.0.0.1")
    site.busy()
    assert ask(port, "/live")[0] == 200
    status, facts = ask(port, "/ready")
    assert (status, facts["queues"], facts["reason"]) == (200, ["celery"], "consuming")
    assert ask(port, "/nothing")[0] == 404
    worker.send_signal(signal.SIGTERM)
    site.said("waiting for running tasks")
    assert ask(port, "/ready") == (503, {"status": "failing", "reason": "stopping"})
    assert ask(port, "/live")[0] == 200
    site.open()
    assert worker.wait(PATIENCE_S) == 0


def test_a_worker_without_its_broker_is_live_and_not_ready(site: WorkerSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("-b", "redis://127.0.0.1:1/0", "-P", "threads", "--health-port", str(port))
    worker = site.start(*words, ready="trying again")
    assert ask(port, "/live")[0] == 200
    status, facts = ask(port, "/ready")
    assert (status, facts["reason"]) == (503, "no connection to the broker")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_a_task_prints_is_a_line_of_the_log_that_names_it(site: WorkerSite, pool: str) -> None:
    site.start("-P", pool, "-c", "1", "--set", "worker_redirect_stdouts_level=ERROR")
    said = site.app.send_task("shop.say", ("hello from inside",))
    said.get(timeout=PATIENCE_S)
    (line,) = [line for line in site.log.read_text().splitlines() if "hello from inside" in line]
    assert " ERROR    stdout  hello from inside" in line
    assert f"task_id={said.id}" in line


def test_printed_lines_stay_as_they_are_when_asked_to(site: WorkerSite) -> None:
    site.start("-P", "threads", "-c", "1", "--set", "worker_redirect_stdouts=false", PYTHONUNBUFFERED="1")
    site.app.send_task("shop.say", ("hello from inside",)).get(timeout=PATIENCE_S)
    assert "hello from inside" in site.log.read_text().splitlines()
