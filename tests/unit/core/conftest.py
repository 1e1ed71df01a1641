"""An app of its own for each test, with results in memory and a publisher that keeps what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from opsq import Opsq
from opsq.broker.message import OutMessage
from opsq.clock import ManualClock


class KeptMessages:
    """A publisher that publishes nowhere."""

    def __init__(self) -> None:
        self.messages: list[OutMessage] = []
        self.calls: list[dict[str, Any]] = []

    def publish(self, message: OutMessage, **how: Any) -> None:
        self.publish_many([message], **how)

    def publish_many(self, messages: Sequence[OutMessage], **how: Any) -> None:
        self.messages.extend(messages)
        self.calls.append(how)

    def close(self) -> None:
        self.messages.clear()

    @property
    def tasks(self) -> list[OutMessage]:
        return [message for message in self.messages if "task" in message.headers]

    @property
    def events(self) -> list[OutMessage]:
        return [message for message in self.messages if "task" not in message.headers]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_790_000_000.0)


@pytest.fixture
def app(clock: ManualClock) -> Iterator[Opsq]:
    made = Opsq("shop", broker="memory://", backend="memory://", clock=clock)
    yield made
    made.close()


@pytest.fixture
def kept(app: Opsq) -> KeptMessages:
    """Catches what the app publishes. Finalises the app at first use only."""
    kept = KeptMessages()

    def catch(sender: Opsq, **_: Any) -> None:
        assert sender._wiring is not None
        sender._wiring.__dict__["publisher"] = kept

    app.on_after_finalize.connect(catch, weak=False)
    return kept
