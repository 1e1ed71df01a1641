"""What is printed becomes log lines: whole ones, of the stream and of the thread they came from."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

from opsq.log_output import redirect_output

Printed = list[tuple[str, str, str]]


class _Lines(logging.Handler):
    """Keeps what is logged; prints a mark of its own for each, as a careless handler may."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Printed = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append((record.name, record.levelname, record.getMessage()))
        sys.stdout.write("a handler prints\n")


@pytest.fixture
def logged() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture(autouse=True)
def _kept(logged: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = _Lines()
    handler.lines = logged
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])


def test_a_line_is_logged_once_it_is_whole(logged: Printed, capsys: pytest.CaptureFixture[str]) -> None:
    with redirect_output("ERROR"):
        print("one", "more", 3)
        print("two\n\nthree", file=sys.stderr)
        print("half a ", end="")
        print("line")
    print("not logged")
    assert logged == [
        ("stdout", "ERROR", "one more 3"),
        ("stderr", "ERROR", "two"),
        ("stderr", "ERROR", "three"),
        ("stdout", "ERROR", "half a line"),
    ]
    assert capsys.readouterr().out == "a handler prints\n" * 4 + "not logged\n"  # not fed its own lines


def test_what_has_no_end_is_logged_when_it_is_flushed_or_long_or_the_last(logged: Printed) -> None:
    with redirect_output():
        print("how far: ", end="", flush=True)
        print("x" * 20_000, end="")
        print("the rest", end="")
    assert [line for _, _, line in logged] == ["how far:", "x" * 20_000, "the rest"]


def test_threads_do_not_mix_their_lines(logged: Printed) -> None:
    turns = threading.Barrier(2)

    def say(name: str) -> None:
        for word in ("a ", "b ", "c\n"):
            turns.wait(10)
            sys.stdout.write(f"{name}{word}")

    with redirect_output():
        threads = [threading.Thread(target=say, args=(name,)) for name in "12"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(line for _, _, line in logged) == ["1a 1b 1c", "2a 2b 2c"]


def test_bytes_and_other_programs_go_where_they_went_before(logged: Printed, capfd: pytest.CaptureFixture[str]) -> None:
    with redirect_output():
        sys.stdout.buffer.write(b"bytes\n")
        sys.stdout.buffer.flush()
        subprocess.run([sys.executable, "-c", "print('a program')"], stdout=sys.stdout, check=True)
        assert not sys.stdout.isatty()
    assert capfd.readouterr().out == "bytes\na program\n"
    assert logged == []
