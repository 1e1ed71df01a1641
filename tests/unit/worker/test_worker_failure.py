"""Descriptions of failures: bounded, and alike for alike causes."""

from __future__ import annotations

from opsq.core.worker.failure import TRACEBACK_MAX_CHARS, describe, fingerprint


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as exc:  # noqa: BLE001 the point of the test
        return exc


def elsewhere(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as exc:  # noqa: BLE001 the point of the test
        return exc


def test_the_same_cause_has_the_same_fingerprint() -> None:
    first, second = caught(ValueError("id 17")), caught(ValueError("id 18"))
    assert fingerprint(first) == fingerprint(second)
    assert fingerprint(first) != fingerprint(caught(TypeError("id 17")))
    assert fingerprint(first) != fingerprint(elsewhere(ValueError("id 17")))


def test_without_a_traceback_the_message_decides() -> None:
    assert fingerprint(ValueError("row 1 at 0x7f00")) == fingerprint(ValueError("row 22 at 0x8a"))
    assert fingerprint(ValueError("row 1")) != fingerprint(ValueError("column 1"))


def test_deep_recursion_is_bounded() -> None:
    def dive(n: int) -> None:
        dive(n + 1)

    try:
        dive(0)
    except RecursionError as exc:
        failure = describe(exc)
    assert len(failure.traceback) <= TRACEBACK_MAX_CHARS + 100
    assert "RecursionError" in failure.text


def test_huge_messages_are_bounded() -> None:
    failure = describe(caught(ValueError("x" * 1_000_000)))
    assert len(failure.text) == 1024
    assert len(failure.traceback) <= TRACEBACK_MAX_CHARS + 100
    assert "left out" in failure.traceback


def test_lone_surrogates_are_fine() -> None:
    assert "udcff" in describe(caught(ValueError("\udcff"))).text
