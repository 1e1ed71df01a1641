"""Amazon SQS as a kombu transport of our own: kombu's queues and envelopes, read and written in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError
from kombu.transport import SQS as _kombu_sqs

from opsq.broker.kombu_source import Declared
from opsq.broker.message import OutMessage
from opsq.broker.polled import write_envelope
from opsq.broker.source import QueueDepth, Source
from opsq.broker.sqs.faults import told
from opsq.broker.sqs.poller import AT_ONCE
from opsq.broker.sqs.source import SqsSource
from opsq.broker.topology import QueueSpec
from opsq.errors import BrokerUnavailable, UsageError
from opsq.masking import mask_url

_kombu: Any = _kombu_sqs  # typed here and there, differently in each version of kombu

DEFAULT_LEASE_S = 30.0
MAX_MESSAGE_BYTES = 1_048_576
"""SQS's own limit on a message and on a batch; base64 twice makes it about 580 kB of body."""
_IO_S = 10
_COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


class Channel(_kombu.Channel):  # type: ignore[misc]  # Any
    """One kombu channel with a batch way out."""

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        self._declared = Declared(self)
        super().__init__(connection, **kwargs)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        try:
            self._resolve_queue_url(queue)
        except (_kombu.DoesNotExistQueueException, _kombu.UndefinedQueueException):
            return False
        return True

    def publish_messages(self, messages: Sequence[OutMessage]) -> int:
        """Send in order, ten to a request; return how many reached no queue.

        Raises: UsageError for what SQS never takes. An error in the middle leaves the first ones sent.
        """
        entries: list[tuple[str, dict[str, Any]]] = []
        unrouted = 0
        with told(self.connection.name):
            for message in messages:
                self._declared.once(message.declare)
                queues = self._lookup(message.exchange, message.routing_key)
                unrouted += not queues
                entries += [(queue, self._entry(queue, message)) for queue in queues if queue]
            for queue, part in _batches(entries):
                self._send(queue, part)
        return unrouted

    def _entry(self, queue: str, message: OutMessage) -> dict[str, Any]:
        text = write_envelope(self, message)
        if self.sqs_base64_encoding:
            text = _kombu.AsyncMessage().encode(text)
        if len(text) > MAX_MESSAGE_BYTES:
            raise UsageError(
                f"message for {queue!r}: {len(text)} bytes as SQS gets it, and SQS takes at most {MAX_MESSAGE_BYTES} "
                f"({len(message.body)} bytes before it was encoded); keep large data elsewhere and send where it is"
            )
        return {"MessageBody": text, **_extras(queue, message.properties)}

    def _send(self, queue: str, entries: Sequence[dict[str, Any]]) -> None:
        client = self.sqs(queue=self.canonical_queue_name(queue))
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        answer = client.send_message_batch(QueueUrl=self._new_queue(queue), Entries=numbered)
        failed = answer.get("Failed") or ()
        if failed:
            said = f"{failed[0].get('Code')}: {str(failed[0].get('Message'))[:200]}"
            raise BrokerUnavailable(
                f"broker {self.connection.name}: {len(failed)} of {len(entries)} messages were refused: {said}"
            )


class Transport(_kombu.Transport):  # type: ignore[misc]  # Any
    """kombu's SQS transport with short time-outs, leases and batches.

    Transport options beside kombu's: lease_seconds.
    """

    Channel = Channel
    channel_errors = (*_kombu.Transport.channel_errors, ClientError, _kombu.UndefinedQueueException)

    def __init__(self, client: Any, **kwargs: Any) -> None:
        # botocore's own would hold a thread for minutes: 60 s, five times over.
        limits = {"connect_timeout": client.connect_timeout or 4, "retries": {"total_max_attempts": 2}}
        wait_s = _wait_s(client)
        given = client.transport_options.get("client-config") or {}
        config = {**limits, "read_timeout": wait_s + _IO_S, "max_pool_connections": 32, **given}
        client.transport_options = {**client.transport_options, "client-config": config}
        super().__init__(client, **kwargs)

    @property
    def name(self) -> str:
        """The broker's URL without its password."""
        client = self.client
        port = f":{client.port}" if client.port else ""
        return mask_url(f"sqs://{client.hostname or ''}{port}")

    def establish_connection(self) -> Any:
        """List the queues, so that a wrong login is found now."""
        with told(self.name):
            return super().establish_connection()

    def open_source(self, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> Source:
        """Return a consumer's stream of deliveries."""
        lease_s = float(self.client.transport_options.get("lease_seconds", DEFAULT_LEASE_S))
        channel = self.client.channel()
        return SqsSource(self, channel, queues, lease_s=lease_s, wait_s=_wait_s(self.client), no_ack=no_ack)

    def queue_depth(self, queue: str) -> QueueDepth | None:
        """Return about how much waits, and how much is held; ``None`` when there is no such queue."""
        channel = self.client.channel()
        try:
            with told(self.name):
                if not channel._has_queue(queue):
                    return None
                client = channel.sqs(queue=channel.canonical_queue_name(queue))
                answer = client.get_queue_attributes(
                    QueueUrl=channel._resolve_queue_url(queue), AttributeNames=list(_COUNTS)
                )
        finally:
            channel.close()
        ready, held = (int(answer["Attributes"].get(name, 0)) for name in _COUNTS)
        return QueueDepth(ready, unacked=held)


def _wait_s(client: Any) -> int:
    """How long SQS may wait for a message before it answers that there is none."""
    return int(client.transport_options.get("wait_time_seconds", Channel.default_wait_time_seconds))


def _extras(queue: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Fields beside the body that SQS knows: for FIFO queues, or as the caller says."""
    found: dict[str, Any] = {
        key: properties[key] for key in ("MessageGroupId", "MessageDeduplicationId") if key in properties
    }
    if queue.endswith(".fifo"):
        return {"MessageGroupId": "default", "MessageDeduplicationId": str(uuid4()), **found}
    if "DelaySeconds" in properties:
        found["DelaySeconds"] = properties["DelaySeconds"]
    return found


def _batches(entries: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield runs of entries for one queue that fit into one request."""
    at: str | None = None
    part: list[dict[str, Any]] = []
    size = 0
    for queue, entry in entries:
        length = len(entry["MessageBody"])
        if part and at is not None and (queue != at or len(part) == AT_ONCE or size + length > MAX_MESSAGE_BYTES):
            yield at, part
            part, size = [], 0
        at = queue
        part.append(entry)
        size += length
    if part and at is not None:
        yield at, part
