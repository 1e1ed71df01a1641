"""What the broker contract works with: a reader on a thread, messages, and fixtures to override."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from opsq.broker.connection import BrokerConnection
from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, OutMessage, Settle, Settlement
from opsq.broker.publisher import Publisher
from opsq.broker.registry import Features
from opsq.broker.topology import QueueSpec, queue_named

PATIENCE_S = 30.0
QUIET_S = 0.2
Options = dict[str, Any]


def unique(name: str) -> str:
    """Return a name nobody else uses; brokers outlive tests."""
    return f"{name}-{uuid4().hex[:10]}"


def message(to: QueueSpec | str, body: bytes = b"[]", **options: Any) -> OutMessage:
    """Return a message for a queue, by default persistent and without headers."""
    spec = to if isinstance(to, QueueSpec) else None
    fields: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {},
        "properties": {"delivery_mode": 2, "priority": 0},
        "routing_key": spec.name if spec else to,
        "declare": spec,
    }
    return OutMessage(body=body, **{**fields, **options})


class Reader:
    """A consumer on a thread of its own, whose deliveries a test takes one by one.

    Options are those of ``Consumer``. ``error`` is what ended it.
    """

    def __init__(self, connection: BrokerConnection, *queues: QueueSpec, **options: Any) -> None:
        self.deliveries: queue.Queue[Delivery] = queue.Queue()
        self.settled: queue.Queue[Settlement] = queue.Queue()
        self.error: BaseException | None = None
        self.batches: list[int] = []
        self.consumer = Consumer(
            connection, queues, on_batch=self._got, on_settled=self._took, **{"prefetch": 100, **options}
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._connection = connection
        self._thread.start()

    def _run(self) -> None:
        try:
            self.consumer.run()
        except BaseException as exc:  # noqa: BLE001 boundary: whatever ended the thread is shown to the test
            self.error = exc

    def _got(self, batch: list[Delivery]) -> None:
        self.batches.append(len(batch))
        for delivery in batch:
            self.deliveries.put(delivery)

    def _took(self, settlements: list[Settlement]) -> None:
        for each in settlements:
            self.settled.put(each)

    def take(self, count: int = 1) -> list[Delivery]:
        """Return the next deliveries; fails when they do not come."""
        return [self.deliveries.get(timeout=PATIENCE_S) for _ in range(count)]

    def nothing(self, seconds: float = QUIET_S) -> bool:
        """Say whether nothing arrives for a moment."""
        try:
            self.deliveries.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def settle(self, *deliveries: Delivery, how: Settle = Settle.ACK) -> None:
        """Settle and wait until the broker took it."""
        self.consumer.settle([Settlement(each.tag, how) for each in deliveries])
        for _ in deliveries:
            self.settled.get(timeout=PATIENCE_S)

    def ask(self, question: Callable[[], Any]) -> Any:
        """Run something on the owner thread and return its answer."""
        answers: queue.Queue[Any] = queue.Queue()
        self.consumer.call_soon(lambda: answers.put(question()))
        return answers.get(timeout=PATIENCE_S)

    def stop(self) -> None:
        """Stop and wait for the thread. Safe to call twice."""
        self.consumer.stop()
        self._thread.join(PATIENCE_S)
        self._connection.close()
        assert not self._thread.is_alive(), "the consumer did not stop"


class BrokerFixtures:
    """Fixtures of the contract. Override ``url`` and ``features``; ``options`` are transport options.

    many: how many messages a test of quantity sends; less where the server of the tests is slow.
    quick_s: what settling takes at most, in the median; more where the machine of the tests is busy.
    """

    features = Features()
    options: ClassVar[Options] = {}
    many: ClassVar[int] = 2000
    quick_s: ClassVar[float] = 0.02

    @pytest.fixture
    def url(self) -> str:
        """The broker to test."""
        raise NotImplementedError("override the fixture url")

    @pytest.fixture
    def connect(self, url: str) -> Iterator[Callable[[], BrokerConnection]]:
        """Make connections; closed after the test."""
        made: list[BrokerConnection] = []

        def make() -> BrokerConnection:
            made.append(BrokerConnection(url, transport_options=self.options))
            return made[-1]

        yield make
        for connection in made:
            connection.close()

    @pytest.fixture
    def publisher(self, connect: Callable[[], BrokerConnection]) -> Iterator[Publisher]:
        """A publisher on a connection of its own."""
        publisher = Publisher(connect)
        yield publisher
        publisher.close()

    @pytest.fixture
    def read(self, connect: Callable[[], BrokerConnection]) -> Iterator[Callable[..., Reader]]:
        """Start readers; stopped after the test."""
        readers: list[Reader] = []

        def start(*queues: QueueSpec, **options: Any) -> Reader:
            readers.append(Reader(connect(), *queues, **options))
            return readers[-1]

        yield start
        for reader in readers:
            reader.stop()

    @pytest.fixture
    def spec(self) -> QueueSpec:
        """A queue nobody else uses."""
        return queue_named(unique("contract"))

    def need(self, feature: str) -> None:
        """Skip when the broker cannot do it."""
        if not getattr(self.features, feature):
            pytest.skip(f"this broker has no {feature}")
