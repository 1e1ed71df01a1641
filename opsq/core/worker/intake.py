"""What happens to a delivery: decided here, from its headers alone, without any effect.

The body stays bytes: it is decoded in the slot, where a peer's 60 MB of JSON costs one slot and not
the thread that acknowledges for all of them. The exception is task protocol 1, which keeps the
task's name and id inside the body.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from datetime import UTC, tzinfo

import msgspec

from opsq.broker.message import Delivery
from opsq.core.worker.policy import Policy
from opsq.errors import MalformedMessage, UntrustedContent, UntrustedSignature
from opsq.wire.content import DEFAULT_REGISTRY, ContentRegistry, Limits
from opsq.wire.protocol1 import UTC_HEADER, read_protocol1
from opsq.wire.task import TaskHeaders, is_protocol2, parse_headers
from opsq.wire.task_body import load_document
from opsq.wire.times import parse_epoch

SAMPLE_BYTES = 1024
_OCTETS = "application/octet-stream"


class Run(msgspec.Struct, frozen=True):
    """Give it a slot."""

    headers: TaskHeaders
    policy: Policy


class Hold(msgspec.Struct, frozen=True):
    """Keep it, unacknowledged, until the epoch second ``until``."""

    headers: TaskHeaders
    policy: Policy
    until: float


class Expired(msgspec.Struct, frozen=True):
    """It was to run before a moment that has passed."""

    headers: TaskHeaders
    policy: Policy


class Revoked(msgspec.Struct, frozen=True):
    """Somebody said that it must not run."""

    headers: TaskHeaders
    policy: Policy


class Unknown(msgspec.Struct, frozen=True):
    """Nobody here knows the task's name."""

    headers: TaskHeaders


class Malformed(msgspec.Struct, frozen=True):
    """It is not a task message; kind is ``malformed``, ``untrusted`` or ``unverified``, sample ≤ 1 kB of it."""

    kind: str
    reason: str
    sample: str


Decision = Run | Hold | Expired | Revoked | Unknown | Malformed


class Intake:
    """The rules by which this worker decides. Thread: any; holds nothing that changes.

    policy: looks up a task's policy by name, None when it is not registered. accept: MIME types.
    local_zone: what a naive time means when its sender says ``utc: false``. stamp_revoked: whether
    one of a task's stamps was revoked.
    """

    def __init__(
        self,
        policy: Callable[[str], Policy | None],
        accept: frozenset[str],
        limits: Limits,
        revoked: Container[str],
        local_zone: tzinfo = UTC,
        stamp_revoked: Callable[[TaskHeaders], bool] | None = None,
        serializers: ContentRegistry = DEFAULT_REGISTRY,
    ) -> None:
        self._policy = policy
        self._accept = accept
        self._limits = limits
        self._revoked = revoked
        self._local_zone = local_zone
        self._serializers = serializers
        self._stamp_revoked = stamp_revoked

    def decide(self, delivery: Delivery, now: float) -> Decision:
        """Decide at the epoch second ``now``. Never raises, whatever the peer sent."""
        try:
            headers = self._headers(delivery)
            expires = epoch_of(headers, headers.expires, "$headers.expires", self._local_zone)
            until = epoch_of(headers, headers.eta, "$headers.eta", self._local_zone)
        except MalformedMessage as exc:
            return Malformed("malformed", str(exc), sample(delivery))
        except UntrustedSignature as exc:
            return Malformed("unverified", str(exc), sample(delivery))
        except UntrustedContent as exc:
            return Malformed("untrusted", str(exc), sample(delivery))
        policy = self._policy(headers.task)
        if policy is None:
            return Unknown(headers)
        if expires is not None and now > expires:
            return Expired(headers, policy)
        if headers.id in self._revoked:
            return Revoked(headers, policy)
        if headers.stamped_headers and self._stamp_revoked is not None and self._stamp_revoked(headers):
            return Revoked(headers, policy)
        if until is not None and until > now:
            return Hold(headers, policy, until)
        return Run(headers, policy)

    def policy(self, task: str) -> Policy | None:
        """The promises for a task type as they are now."""
        return self._policy(task)

    def _headers(self, delivery: Delivery) -> TaskHeaders:
        if len(delivery.body) > self._limits.max_bytes:
            raise MalformedMessage(
                f"expected a body of at most {self._limits.max_bytes} bytes, got {len(delivery.body)}", "$body"
            )
        if not delivery.headers and not delivery.properties and delivery.content_type in (None, _OCTETS):
            raise MalformedMessage("no envelope: the queue holds something that no task queue wrote", "$")
        if delivery.content_type not in self._accept:
            raise UntrustedContent(str(delivery.content_type), sorted(self._accept))
        if is_protocol2(delivery.headers):
            return parse_headers(delivery.headers)
        document = load_document(
            delivery.body,
            delivery.content_type,
            delivery.content_encoding,
            delivery.headers.get("compression"),
            accept=self._accept,
            limits=self._limits,
            registry=self._serializers,
        )
        return read_protocol1(document, delivery.headers, delivery.properties)[0]


def epoch_of(headers: TaskHeaders, text: str | None, path: str, local_zone: tzinfo) -> float | None:
    """A time of a message as epoch seconds. Raises: MalformedMessage."""
    if text is None:
        return None
    # Only protocol 1 can say that its times are local ones.
    return parse_epoch(text, path, local_zone if headers.user.get(UTC_HEADER) is False else UTC)


def sample(delivery: Delivery) -> str:
    """At most 1 kB of a delivery that cannot be used, for a log line or a page."""
    body = bytes(delivery.body[:SAMPLE_BYTES]).decode("utf-8", "backslashreplace")
    return _short(f"content_type={delivery.content_type!r} headers={_keys(delivery.headers)} body={body}")


def _keys(headers: Mapping[str, object]) -> str:
    return ",".join(sorted(map(str, headers))[:32])


def _short(text: str) -> str:
    return text if len(text) <= SAMPLE_BYTES else text[: SAMPLE_BYTES - 1] + "…"
