from __future__ import annotations

import gc
import logging
from typing import Any

import pytest

from opsq import signals
from opsq.errors import UsageError
from opsq.signals import Signal

SIGNALS = """
before_task_publish after_task_publish task_received task_prerun task_postrun task_success task_retry
task_failure task_internal_error task_revoked task_rejected task_unknown task_sent celeryd_init
celeryd_after_setup import_modules worker_init worker_before_create_process worker_process_init
worker_process_shutdown worker_ready worker_shutdown heartbeat_sent worker_shutting_down setup_logging
after_setup_logger after_setup_task_logger beat_init beat_embedded_init eventlet_pool_started
eventlet_pool_preshutdown eventlet_pool_postshutdown eventlet_pool_apply user_preload_options
"""


def test_receivers_get_signal_sender_and_arguments() -> None:
    signal = Signal("things", ("what",))
    seen: list[Any] = []

    @signal.connect
    def receiver(sender: Any = None, **arguments: Any) -> str:
        seen.append((sender, arguments))
        return "done"

    assert signal.send("me", what=1) == [(receiver, "done")]
    assert seen == [("me", {"signal": signal, "what": 1})]


def test_a_sender_filter_compares_names_and_objects() -> None:
    signal = Signal("things")
    thing, seen = object(), []

    def on_text(sender: Any = None, **_: Any) -> None:
        seen.append(("text", sender))

    def on_thing(sender: Any = None, **_: Any) -> None:
        seen.append(("thing", sender))

    signal.connect(on_text, sender="a" + "b")
    signal.connect(on_thing, sender=thing)
    for sender in ("ab", "other", thing, None):
        signal.send(sender)
    assert seen == [("text", "ab"), ("thing", thing)]
    assert signal.has_listeners("ab")
    assert not signal.has_listeners("other")


def test_receivers_are_held_weakly_unless_told_otherwise() -> None:
    signal = Signal("things")
    signal.connect(lambda **_: None)
    signal.connect(lambda **_: "kept", weak=False)
    gc.collect()
    assert [value for _, value in signal.send()] == ["kept"]
    assert len(signal.receivers) == 1


def test_methods_are_held_weakly_too() -> None:
    class Owner:
        def receive(self, **_: Any) -> str:
            return "method"

    signal, owner = Signal("things"), Owner()
    signal.connect(owner.receive)
    assert [value for _, value in signal.send()] == ["method"]
    assert signal.disconnect(owner.receive)
    signal.connect(owner.receive)
    del owner
    gc.collect()
    assert signal.send() == []


def test_a_failing_receiver_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    signal = Signal("things")
    error = ValueError("no")

    def bad(**_: Any) -> None:
        raise error

    def good(**_: Any) -> int:
        return 1

    signal.connect(bad)
    signal.connect(good)
    with caplog.at_level(logging.ERROR):
        assert signal.send() == [(bad, error), (good, 1)]
    assert "Signal receiver failed" in caplog.text


def test_connecting_twice_calls_once_and_uid_replaces() -> None:
    signal, calls = Signal("things"), []

    def first(**_: Any) -> None:
        calls.append("first")

    def second(**_: Any) -> None:
        calls.append("second")

    signal.connect(first)
    signal.connect(first)
    signal.send()
    assert calls == ["first"]
    signal.disconnect(first)
    signal.connect(first, dispatch_uid="x")
    signal.connect(second, dispatch_uid="x")
    signal.send()
    assert calls == ["first", "second"]
    assert signal.disconnect(dispatch_uid="x")
    assert not signal.disconnect(dispatch_uid="x")


def test_retry_calls_once_more() -> None:
    signal, calls = Signal("things"), []

    def moody(**_: Any) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return "fine"

    signal.connect(moody, retry=True)
    assert [value for _, value in signal.send()] == ["fine"]


def test_a_receiver_must_be_callable() -> None:
    with pytest.raises(UsageError, match="needs a function to call, got 3"):
        Signal("things").connect(3)


def test_every_signal_of_celery_is_here() -> None:
    assert [name for name in SIGNALS.split() if getattr(signals, name).name != name] == []
