"""What is stored of a task, between records and a backend's bytes: encoding, expiry, retries, states."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from msgspec import structs

from opsq.core.backends.base import Backend, Subscription
from opsq.core.backends.disabled import DisabledBackend
from opsq.core.backends.fields import KeepsFields
from opsq.core.request import Context
from opsq.errors import BackendUnavailable, MalformedMessage, UntrustedContent, UsageError
from opsq.settings import Settings
from opsq.wire.content import DEFAULT_REGISTRY, ContentRegistry, Limits, accept_set, dumps
from opsq.wire.result import (
    ResultMeta,
    ResultRef,
    decode_document,
    decode_result,
    encode_result,
    exception_from_wire,
    exception_to_wire,
    parse_ref,
    ref_to_wire,
)
from opsq.wire.result import pack as pack_result
from opsq.wire.saferepr import saferepr
from opsq.wire.states import EXCEPTION_STATES, FAILURE, PENDING, READY_STATES

logger = logging.getLogger(__name__)
T = TypeVar("T")


class ResultStore:
    """Results by task id, over any backend.

    enabled: false when no result store is configured; storing is then a no-op and reading raises
    ResultsDisabled.
    Thread: any; usable in a forked child.
    """

    def __init__(self, backend: Backend, settings: Settings, serializers: ContentRegistry = DEFAULT_REGISTRY) -> None:
        self.backend = backend
        if backend.capabilities.keeps == "fields":
            keeper = cast(KeepsFields, backend)
            keeper.fields = keeper.fields.with_registry(serializers)
        self.enabled = not isinstance(backend, DisabledBackend)
        self.unreadable = 0
        self._settings = settings
        self._serializer = settings.result_serializer
        self._compression = settings.result_compression
        self._serializers = serializers
        self._accept = accept_set(settings.result_accept_content or settings.accept_content, serializers) | {
            serializers.find(self._serializer).mime
        }
        self._limits = Limits(
            max_bytes=settings.message_max_bytes,
            max_decompressed_bytes=settings.message_max_decompressed_bytes,
            max_depth=settings.message_max_depth,
        )
        self._ttl_s = settings.result_expires or None
        self._failure_ttl_s = settings.result_failure_expires or self._ttl_s

    def store(self, meta: ResultMeta) -> bool:
        """Store the state of a task, atomically; an exception in ``meta.result`` is written as Celery does.

        Returns: false when nothing was written: a SUCCESS is there already, or results are disabled.
        Raises: UsageError when the serializer cannot write the result, BackendUnavailable.
        """
        if not self.enabled:
            return False
        if isinstance(meta.result, BaseException) and meta.status in EXCEPTION_STATES:
            meta = structs.replace(meta, result=exception_to_wire(meta.result, self._serializer, self._serializers))
        payload = self._encoded(meta)
        ttl_s = self._failure_ttl_s if meta.status == FAILURE else self._ttl_s
        return self._steadily(lambda: self.backend.put("task", meta.task_id, payload, state=meta.status, ttl_s=ttl_s))

    def store_custom(self, id: str, state: str, meta: Any, request: Context, more: Mapping[str, Any]) -> bool:
        """Store a state that a task chose for itself. more: ``traceback`` and ``date_done``."""
        return self.store(
            ResultMeta(
                task_id=id,
                status=state,
                result=meta,
                traceback=more.get("traceback"),
                children=[child.as_tuple() for child in request.children],
                date_done=more.get("date_done") if state in READY_STATES else None,
                group_id=request.group,
                parent_id=request.parent_id,
                extended=self._settings.result_extended,
                name=request.task,
                args=request.args,
                kwargs=request.kwargs,
                worker=request.hostname,
                retries=request.retries,
                queue=(request.delivery_info or {}).get("routing_key"),
                stamped_headers=request.stamped_headers,
                stamps=dict(request.stamps or {}),
            )
        )

    def load(self, id: str) -> ResultMeta:
        """Read the state of a task; PENDING when nothing (or nothing readable) is stored.

        Raises: ResultsDisabled, BackendUnavailable.
        """
        payload = self._steadily(lambda: self.backend.get("task", id))
        return self._decoded(id, payload) if payload is not None else pending(id)

    def load_many(self, ids: Sequence[str]) -> dict[str, ResultMeta]:
        """Read the states of several tasks in one round trip; unknown ids are absent.

        Raises: ResultsDisabled, BackendUnavailable.
        """
        found = self._steadily(lambda: self.backend.get_many("task", ids))
        return {id: self._decoded(id, payload) for id, payload in found.items()}

    def exists(self, id: str) -> bool:
        """Tell whether anything is stored of a task."""
        return self._steadily(lambda: self.backend.get("task", id)) is not None

    def forget(self, ids: Iterable[str]) -> None:
        """Delete what is stored of these tasks."""
        listed = list(ids)
        self._steadily(lambda: self.backend.forget("task", listed))

    def subscribe(self, ids: Sequence[str]) -> Subscription:
        """Ask to be told when one of these tasks' states changes."""
        return self.backend.subscribe(ids)

    def save_group(self, group: ResultRef) -> None:
        """Store the members of a group under its id."""
        payload = self.pack({"result": ref_to_wire(group)})
        self._steadily(lambda: self.backend.put("group", group.id, payload, state="", ttl_s=self._ttl_s))

    def load_group(self, group_id: str) -> ResultRef | None:
        """Read the members of a saved group, or none."""
        payload = self._steadily(lambda: self.backend.get("group", group_id))
        if payload is None:
            return None
        document: Any = self.unpack(payload)
        return parse_ref(document.get("result") if isinstance(document, dict) else document, self._limits)

    def pack(self, document: object) -> bytes:
        """A document in this store's serializer and compression. Raises: UsageError."""
        data, _mime, _encoding = dumps(document, self._serializer, self._serializers)
        return pack_result(data, self._compression, self._serializers)

    def unpack(self, payload: bytes) -> object:
        """Read what ``pack`` wrote. Raises: MalformedMessage, UntrustedContent."""
        return decode_document(
            payload, self._serializer, accept=self._accept, limits=self._limits, registry=self._serializers
        )

    def forget_group(self, group_id: str) -> None:
        """Delete a saved group; its members' results stay."""
        self._steadily(lambda: self.backend.forget("group", [group_id]))

    def cleanup(self, now: float | None = None) -> int:
        """Delete expired results where the store does not do it by itself; how many."""
        return self._steadily(lambda: self.backend.cleanup(time.time() if now is None else now))

    def close(self) -> None:
        """Let go of connections; later use opens them again."""
        self.backend.close()

    def _encoded(self, meta: ResultMeta) -> bytes:
        try:
            return encode_result(meta, self._serializer, self._compression, self._serializers)
        except UsageError:
            if not meta.extended:
                raise
            # The message may have come by a serializer that can write more; arguments must not cost the result.
            meta = structs.replace(meta, args=saferepr(meta.args), kwargs=saferepr(meta.kwargs))
            return encode_result(meta, self._serializer, self._compression, self._serializers)

    def _decoded(self, id: str, payload: bytes) -> ResultMeta:
        try:
            return decode_result(
                payload, self._serializer, accept=self._accept, limits=self._limits, registry=self._serializers
            )
        except (MalformedMessage, UntrustedContent) as error:
            # As Celery: what cannot be read counts as not there, or one bad value would stop every waiter.
            self.unreadable += 1
            logger.warning("Stored result cannot be read", extra={"task_id": id, "error": str(error)})
            return pending(id)

    def _steadily(self, work: Callable[[], T]) -> T:
        """Run ``work``, again and again with growing pauses when ``result_backend_always_retry`` is on."""
        tries = 0
        while True:
            try:
                return work()
            except BackendUnavailable:
                settings = self._settings
                if not settings.result_backend_always_retry or tries >= settings.result_backend_max_retries:
                    raise
                longest_ms = settings.result_backend_max_sleep_between_retries_ms
                first_ms = settings.result_backend_base_sleep_between_retries_ms
                pause_ms = min(longest_ms, first_ms * 2.0 ** min(tries, 30))
                time.sleep(random.uniform(pause_ms / 2, pause_ms) / 1000)
                tries += 1


def pending(id: str) -> ResultMeta:
    """The state of a task of which nothing is known."""
    return ResultMeta(task_id=id, status=PENDING)


def value_of(meta: ResultMeta) -> Any:
    """The value of a state; of an exception state the exception, rebuilt without importing anything."""
    if meta.status in EXCEPTION_STATES and meta.result is not None:
        return exception_from_wire(meta.result)
    return meta.result


def meta_as_dict(meta: ResultMeta) -> dict[str, Any]:
    """A state as the dict that callbacks get."""
    return {
        "task_id": meta.task_id,
        "status": meta.status,
        "result": value_of(meta),
        "traceback": meta.traceback,
        "children": meta.children,
        "date_done": meta.date_done,
    }
