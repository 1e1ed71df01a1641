"""Log levels set by remote control: what they let through, and what is as before once they are taken back."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from opsq.core.worker.level_file import LevelFile, apply_file
from opsq.logs import LogConfig, LogHandler

SHOP, BANK = "level_file_shop", "level_file_bank"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What the log says from INFO on; the process's own logging is put back afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    stream = io.StringIO()
    root.handlers[:] = [LogHandler(LogConfig(), stream)]
    root.setLevel("INFO")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (SHOP, BANK):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def levels() -> Iterator[LevelFile]:
    levels = LevelFile()
    yield levels
    levels.remove()


def said(stream: io.StringIO, logger: str) -> bool:
    """Whether a line of DEBUG of this logger is in the log."""
    before = stream.tell()
    logging.getLogger(logger).debug("a small word")
    return stream.tell() > before


def test_one_logger_talks_more_and_then_no_longer(stream: io.StringIO, levels: LevelFile) -> None:
    logging.getLogger(BANK).setLevel("DEBUG")  # the user's, which the log's INFO holds back
    before = levels.set(SHOP, logging.DEBUG)
    assert said(stream, SHOP)
    levels.set(SHOP, before)
    assert not said(stream, SHOP)
    assert not said(stream, BANK)


def test_what_one_logger_was_told_outlives_a_change_of_all(stream: io.StringIO, levels: LevelFile) -> None:
    levels.set(SHOP, logging.DEBUG)
    levels.set("", logging.WARNING)
    assert said(stream, SHOP)
    assert not said(stream, BANK)


def test_a_child_process_does_the_same(stream: io.StringIO, levels: LevelFile) -> None:
    levels.set(SHOP, logging.DEBUG)
    for handler in logging.getLogger().handlers:
        handler.setLevel("INFO")  # as in a child that starts
    apply_file(levels.path)
    assert said(stream, SHOP)


def test_a_handler_of_the_users_keeps_its_level(stream: io.StringIO, levels: LevelFile) -> None:
    mail = logging.StreamHandler(io.StringIO())
    mail.setLevel("ERROR")
    logging.getLogger().addHandler(mail)
    levels.set("", logging.DEBUG)
    assert mail.level == logging.ERROR
