"""From a job's bytes to a task message, in the slot."""

from __future__ import annotations

from opsq.broker.message import Delivery
from opsq.core.pools.base import Job
from opsq.settings import Settings
from opsq.wire.content import DEFAULT_REGISTRY, ContentRegistry, Limits, accept_set
from opsq.wire.protocol1 import read_protocol1
from opsq.wire.task import TaskBody, TaskHeaders, decode_body, is_protocol2, parse_headers
from opsq.wire.task_body import load_document


def limits_of(settings: Settings) -> Limits:
    """The limits on what peers may send, from the settings."""
    return Limits(
        max_bytes=settings.message_max_bytes,
        max_decompressed_bytes=settings.message_max_decompressed_bytes,
        max_depth=settings.message_max_depth,
    )


class Loader:
    """Decodes jobs by this process's rules. Thread: any."""

    def __init__(self, settings: Settings, registry: ContentRegistry = DEFAULT_REGISTRY) -> None:
        self.accept = accept_set(settings.accept_content, registry)
        self.registry = registry
        self.limits = limits_of(settings)

    def load(self, job: Job | Delivery) -> tuple[TaskHeaders, TaskBody]:
        """Decode ``job``. Raises: MalformedMessage, UntrustedContent."""
        if not is_protocol2(job.headers):
            document = load_document(
                job.body,
                job.content_type,
                job.content_encoding,
                job.headers.get("compression"),
                accept=self.accept,
                limits=self.limits,
                registry=self.registry,
            )
            return read_protocol1(document, job.headers, job.properties)
        headers = parse_headers(job.headers)
        body = decode_body(
            job.body,
            job.content_type,
            job.content_encoding,
            headers.compression,
            accept=self.accept,
            limits=self.limits,
            registry=self.registry,
        )
        return headers, body
