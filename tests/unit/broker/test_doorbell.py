"""Ringing other processes."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest

from opsq.broker.sqlite.doorbell import ADDRESS_MAX_BYTES, Doorbell, Ringer, doorbell_dir, ring
from opsq.errors import ConfigError
from tests.promises import within


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


def test_a_ring_wakes_and_is_taken_once(path: Path) -> None:
    bell = Doorbell(path, "a")
    assert not bell.wait(0)
    assert ring(path, "a") == 1
    assert ring(path, "b") == 0
    assert bell.wait(1)
    assert not bell.wait(0)
    bell.close()


def test_one_bell_listens_on_several_channels(path: Path) -> None:
    bell = Doorbell(path, "a")
    bell.listen("b")
    bell.listen("b")
    assert ring(path, "b") == 1
    assert bell.wait(1)
    bell.close()
    bell.close()
    assert (ring(path, "a"), ring(path, "b")) == (0, 0)
    assert not doorbell_dir(path, "a").exists(), "the empty directory goes too"


def test_a_full_bell_does_not_block_the_ringer(path: Path) -> None:
    bell = Doorbell(path, "a")
    ringer = Ringer(path)
    assert all(ringer.ring("a") == 1 for _ in range(5_000))
    assert bell.drain()
    ringer.close()
    bell.close()


def test_a_dead_bell_is_removed(path: Path) -> None:
    child = os.fork()
    if child == 0:
        Doorbell(path, "a")
        os._exit(0)
    os.waitpid(child, 0)
    left = list(doorbell_dir(path, "a").iterdir())
    assert len(left) == 1
    ringer = Ringer(path)
    assert ringer.ring("a") == 0
    assert not left[0].exists()
    bell = Doorbell(path, "a")
    assert ringer.ring("a") == 1
    ringer.close()
    bell.close()


def test_a_ringer_notices_who_comes_and_goes(path: Path) -> None:
    ringer = Ringer(path)
    bells = []
    for count in range(1, 6):
        bells.append(Doorbell(path, "a"))
        assert ringer.ring("a") == count
    bells.pop().close()
    assert ringer.ring("a") == 4
    for bell in bells:
        bell.close()
    ringer.close()


def test_the_same_file_by_another_name_rings_the_same_bell(path: Path, tmp_path: Path) -> None:
    path.touch()
    (tmp_path / "link.db").symlink_to(path)
    bell = Doorbell(path, "a")
    assert ring(tmp_path / "link.db", "a") == 1
    bell.close()


def test_waiting_threads_wake_within_a_millisecond_or_so(path: Path) -> None:
    bell, ringer = Doorbell(path, "a"), Ringer(path)
    woken: list[float] = []
    waiting = threading.Thread(target=lambda: woken.extend(time.perf_counter() for _ in range(1) if bell.wait(30)))
    waiting.start()
    started = time.perf_counter()
    ringer.ring("a")
    waiting.join()
    assert woken[0] - started < min(within(0.1), 30)
    ringer.close()
    bell.close()


def test_the_directory_is_private_and_the_address_short(path: Path) -> None:
    bell = Doorbell(path, "x" * 500)
    directory = doorbell_dir(path, "x" * 500)
    for each in (directory, directory.parent, directory.parent.parent):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700
    (address,) = directory.iterdir()
    assert len(os.fsencode(address)) <= ADDRESS_MAX_BYTES
    bell.close()


def test_a_long_tmpdir_is_not_used(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("d" * 90)))
    assert len(os.fsencode(doorbell_dir(path, "a"))) + 20 <= ADDRESS_MAX_BYTES


def test_a_directory_others_can_enter_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        (Path(short) / f"opsq-{os.getuid()}").mkdir(mode=0o755)
        with pytest.raises(ConfigError, match="mode 0700, found mode 0755"):
            Doorbell(path, "a")
