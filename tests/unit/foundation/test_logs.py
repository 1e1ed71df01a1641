"""What a line says, who it is about, and that logging never breaks, leaks or floods."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq import logs
from opsq.clock import ManualClock
from opsq.errors import ConfigError
from opsq.settings import Settings

log = logging.getLogger("opsq.test")


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


class Screen:
    """A set-up log whose lines can be read back."""

    def __init__(self, **config: object) -> None:
        self.stream = io.StringIO()
        self.clock = ManualClock()
        values = {"level": "DEBUG", "clock": self.clock, **config}
        self.handler = logs.setup(logs.LogConfig(**values), self.stream)  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines()]


class TestConsole:
    def test_a_line_carries_its_fields(self) -> None:
        screen = Screen(worker="opsq@host")
        with logs.bind(task_id="t1", task="shop.pay"):
            log.warning("paid %s", "a lot", extra={"queue": "fast lane", "took": 1.5, "nothing": None})
        (line,) = screen.lines()
        assert line[23:] == (
            ' WARNING  opsq.test  paid a lot  worker=opsq@host task_id=t1 task=shop.pay queue="fast lane" took=1.5'
        )

    def test_a_message_cannot_forge_a_line_or_drive_the_terminal(self) -> None:
        screen = Screen()
        log.info("evil\n2026-01-01 INFO all is well\x1b[2J", extra={"name2": "x\ny=z"})
        first, second = screen.lines()
        assert second == '    2026-01-01 INFO all is well\\x1b[2J  name2="x\\ny=z"'
        assert "\x1b" not in first + second

    def test_celerys_format_names_work(self) -> None:
        screen = Screen(
            fmt="[%(levelname)s] %(message)s", task_fmt="[%(levelname)s] %(task_name)s[%(task_id)s]: %(message)s"
        )
        log.info("one")
        with logs.bind(task_id="t1", task="shop.pay"):
            log.info("two")
        assert screen.lines() == ["[INFO] one", "[INFO] shop.pay[t1]: two"]

    def test_a_traceback_follows(self) -> None:
        screen = Screen()
        try:
            raise ValueError("x")
        except ValueError:
            log.exception("boom")
        assert screen.lines()[-1] == "ValueError: x"

    def test_colours_only_when_asked(self) -> None:
        screen = Screen(color=True)
        log.error("red")
        assert "\x1b[31mERROR   \x1b[0m" in screen.lines()[0]


class TestJson:
    def test_one_object_per_line(self) -> None:
        screen = Screen(log_format="json", worker="w")
        with logs.bind(task_id="t1"):
            log.info("line one\nline two", extra={"n": 1, "level": "mine", "url": "redis://:pw@h/0"})
        (line,) = screen.objects()
        assert str(line.pop("time")).endswith("+00:00")
        assert line == {
            "level": "INFO",
            "logger": "opsq.test",
            "message": "line one\nline two",
            "worker": "w",
            "task_id": "t1",
            "n": 1,
            "field_level": "mine",
            "url": "redis://:***@h/0",
        }

    def test_an_exception_is_a_field(self) -> None:
        screen = Screen(log_format="json")
        try:
            raise ValueError("x")
        except ValueError:
            log.exception("boom")
        exception = screen.objects()[0]["exception"]
        assert isinstance(exception, dict)
        assert (exception["type"], exception["message"]) == ("ValueError", "x")
        assert exception["traceback"].endswith("ValueError: x")

    def test_what_json_cannot_hold_does_not_lose_the_line(self) -> None:
        screen = Screen(log_format="json")
        circle: list[object] = []
        circle.append(circle)
        log.info("odd", extra={"a": float("nan"), "b": object, "c": {(1, 2): 3}})
        assert screen.objects()[0]["message"] == "odd"
        assert screen.handler.lost == 0


class TestContext:
    def test_bindings_nest_and_end(self) -> None:
        with logs.bind(task_id="1", queue="a"):
            with logs.bind(queue="b"):
                assert logs.bound() == {"task_id": "1", "queue": "b"}
            assert logs.bound() == {"task_id": "1", "queue": "a"}
        assert logs.bound() == {}

    def test_push_and_pop(self) -> None:
        token = logs.push({"task_id": "1"})
        assert logs.bound() == {"task_id": "1"}
        logs.pop(token)
        assert logs.bound() == {}

    def test_another_thread_sees_nothing(self) -> None:
        seen = []
        with logs.bind(task_id="1"):
            thread = threading.Thread(target=lambda: seen.append(dict(logs.bound())))
            thread.start()
            thread.join(30)
        assert seen == [{}]

    def test_a_task_logger_is_a_logger(self) -> None:
        assert logs.get_task_logger("shop") is logging.getLogger("shop")


class TestRepeats:
    def test_lines_beyond_the_limit_are_counted_and_told_when_the_window_ends(self) -> None:
        screen = Screen(repeat_limit=1)
        for attempt in range(57):
            log.warning("broker lost", extra={"attempt": attempt})
        assert len(screen.lines()) == 1
        screen.clock.advance(30)
        log.info("connected")
        assert [line.split("opsq.test  ")[1] for line in screen.lines()[1:]] == [
            "broker lost (×57 in 30 s)  attempt=0",
            "connected",
        ]

    def test_what_is_held_back_is_told_at_the_end(self) -> None:
        screen = Screen(repeat_limit=1)
        log.warning("again")
        log.warning("again")
        screen.handler.close()
        screen.handler.close()
        assert "again (×2 in 0 s)" in screen.lines()[-1]

    def test_different_tasks_and_arguments_are_different_lines(self) -> None:
        screen = Screen(repeat_limit=1)
        for task_id in ("1", "2"):
            with logs.bind(task_id=task_id):
                log.info("task failed")
                log.info("n=%s", task_id)
        assert len(screen.lines()) == 4

    def test_the_users_own_lines_never_collapse(self) -> None:
        screen = Screen(repeat_limit=1)
        for _ in range(5):
            logging.getLogger("shop").info("tick")
        assert len(screen.lines()) == 5

    def test_zero_shows_all(self) -> None:
        screen = Screen(repeat_window_s=0.0)
        for _ in range(9):
            log.info("tick")
        assert len(screen.lines()) == 9

    def test_memory_is_bounded(self) -> None:
        screen = Screen()
        for number in range(2000):
            log.info("n=%s", number)
        assert len(screen.handler._repeats._runs) <= 501


class TestSetup:
    def test_a_file_is_private_and_survives_rotation(self, tmp_path: Path) -> None:
        path = tmp_path / "opsq.log"
        handler = logs.setup(logs.LogConfig(path=str(path)))
        log.info("one")
        assert os.stat(path).st_mode & 0o777 == 0o600
        path.rename(tmp_path / "opsq.log.1")
        log.info("two")
        handler.close()
        handler.close()
        log.info("after the end")
        assert path.read_text().endswith("two\n")
        assert (tmp_path / "opsq.log.1").read_text().endswith("one\n")

    def test_a_file_that_cannot_be_opened_is_a_config_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot open the log file .*: Is a directory"):
            logs.setup(logs.LogConfig(path=str(tmp_path)))

    def test_set_up_twice_is_set_up_once(self) -> None:
        first, second = Screen(), Screen()
        log.info("x")
        assert (len(first.lines()), len(second.lines())) == (0, 1)

    def test_without_hijacking_the_applications_handlers_stay(self) -> None:
        root = logging.getLogger()
        own = logging.NullHandler()
        root.handlers[:] = [own]
        Screen(hijack_root=False)
        assert root.handlers == [own]

    def test_config_from_settings(self) -> None:
        config = logs.config_from(Settings(log_format="json", worker_logfile="/x"), worker="w", level="DEBUG")
        assert (config.log_format, config.path, config.worker, config.level) == ("json", "/x", "w", "DEBUG")

    def test_a_stream_that_fails_breaks_nothing_and_is_counted(self) -> None:
        screen = Screen()
        screen.stream.close()
        log.info("x")
        assert screen.handler.lost == 1
