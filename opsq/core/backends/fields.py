"""The fields of a stored document, for stores that keep them in columns of Celery's.

The result store hands over and reads documents. What such a store needs is here: a document as a record,
and single values as bytes of ``result_serializer``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from opsq.core.backends.lifetimes import naive_utc
from opsq.errors import MalformedMessage, OpsqError
from opsq.settings import Settings
from opsq.wire.content import DEFAULT_REGISTRY, ContentRegistry, Limits, accept_set, dumps
from opsq.wire.result import ResultMeta, decode_document, decode_result, encode_result, pack
from opsq.wire.states import READY_STATES


class Fields:
    """Takes documents apart and puts them together again, by the settings of results. Pure. Thread: any.

    compress: whether values are compressed as ``result_compression`` says; Celery reads that in some stores only.
    """

    def __init__(
        self, settings: Settings, *, compress: bool = False, registry: ContentRegistry = DEFAULT_REGISTRY
    ) -> None:
        self._settings = settings
        self._compress = compress
        self._registry = registry
        self._serializer = settings.result_serializer
        self._compression = settings.result_compression
        self._accept = accept_set(settings.result_accept_content or settings.accept_content, registry) | {
            registry.find(self._serializer).mime
        }
        self._limits = Limits(
            max_bytes=settings.message_max_bytes,
            max_decompressed_bytes=settings.message_max_decompressed_bytes,
            max_depth=settings.message_max_depth,
        )

    def with_registry(self, registry: ContentRegistry) -> Fields:
        """The same for an app's own serializers."""
        return Fields(self._settings, compress=self._compress, registry=registry)

    @property
    def content(self) -> tuple[str, str]:
        """MIME type and encoding of ``encode``'s values."""
        found = self._registry.find(self._serializer)
        return found.mime, found.encoding

    def record(self, payload: bytes) -> ResultMeta:
        """A task's document as a record. Raises: MalformedMessage, UntrustedContent."""
        return decode_result(
            payload, self._serializer, accept=self._accept, limits=self._limits, registry=self._registry
        )

    def document(self, meta: ResultMeta) -> bytes:
        """A record as a document."""
        return encode_result(meta, self._serializer, self._compression, self._registry)

    def encode(self, value: object) -> bytes:
        """One value. Raises: UsageError for one that the serializer cannot write."""
        data, _mime, _encoding = dumps(value, self._serializer, self._registry)
        return pack(data, self._compression if self._compress else None, self._registry)

    def decode(self, data: bytes | str | None) -> Any:
        """One value; none stays none. Raises: MalformedMessage, UntrustedContent."""
        if data is None:
            return None
        return decode_document(
            data, self._serializer, accept=self._accept, limits=self._limits, registry=self._registry
        )

    def members(self, payload: bytes) -> Any:
        """What a saved group's document holds, in wire form. Raises: MalformedMessage, UntrustedContent."""
        document = self.decode(payload)
        if not isinstance(document, dict) or "result" not in document:
            raise MalformedMessage("a saved group is an object with 'result'")
        return document["result"]

    def group(self, members: Any) -> bytes:
        """A saved group's document."""
        data, _mime, _encoding = dumps({"result": members}, self._serializer, self._registry)
        return pack(data, self._compression, self._registry)


class KeepsFields(Protocol):
    """A backend whose capabilities say that it keeps fields."""

    fields: Fields


def storable(text: str | None) -> str | None:
    """Text that every database takes: without NUL, and without halves of characters."""
    return text and text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def date_of(meta: ResultMeta, now: float) -> datetime:
    """When a record was written, naive UTC: what it says, else ``now`` (epoch seconds)."""
    try:
        said = datetime.fromisoformat(meta.date_done) if meta.date_done else None
    except ValueError:
        said = None
    return naive_utc(said if said is not None else datetime.fromtimestamp(now, UTC))


def said_date(status: str, date: datetime | None) -> str | None:
    """A stored date as a document says it: ISO 8601 in UTC, for final states only."""
    if date is None or status not in READY_STATES:
        return None
    return naive_utc(date).replace(tzinfo=UTC).isoformat()


def readable(make: Callable[[], bytes], raw: object) -> bytes:
    """The document that ``make()`` puts together; what cannot be read is given on as it is, to be counted there."""
    try:
        return make()
    except (OpsqError, ValueError, TypeError):
        return raw if isinstance(raw, bytes) else str(raw).encode("utf-8", "replace")
