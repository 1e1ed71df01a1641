"""From a call to the message on the wire, and the event that announces it. Pure: nothing is sent here.

A ``Caller`` holds what does not change between the calls of an app, worked out once, because this
is the hot path of every ``delay()``.

Source: celery-protocol A.1 to A.3, B.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from opsq.broker.message import OutMessage
from opsq.broker.topology import event_exchange_of
from opsq.clock import Clock, LamportClock
from opsq.core.arguments import BadArguments
from opsq.core.call_options import AMQP_PROPERTIES, check_call_options
from opsq.core.origin import Here, Origin, new_id
from opsq.core.routing import Destination, Router
from opsq.core.schedules.zones import zone_of_settings
from opsq.core.telling import payload_rule
from opsq.core.times import Due, due
from opsq.errors import UsageError
from opsq.settings import Settings
from opsq.wire.content import DEFAULT_REGISTRY, JSON_MIME, ContentRegistry
from opsq.wire.event import encode_event, encode_events, routing_key
from opsq.wire.payload import Rule, shown_fields
from opsq.wire.saferepr import saferepr
from opsq.wire.task import NO_EMBED, Embed, TaskBody, TaskHeaders, encode_body, headers_to_wire

if TYPE_CHECKING:
    from opsq.core.app import Opsq

PUBLISHED_AT: Final = "opsq_published_at"
_REPR_CHARS: Final = 1024
_MOST_RULES: Final = 10_000
_NEVER_DUE: Final = Due(None, None, None)
_NO_OPTIONS: Final[Mapping[str, Any]] = {}
_FOLLOWERS: Final = frozenset({"link", "link_error", "chain", "chord"})
_MODES: Final[Mapping[object, int]] = {"transient": 1, "persistent": 2, 1: 1, 2: 2}


class Built(Struct, frozen=True):
    """One call, ready to be published.

    event: the fields of ``task-sent``, none when it is not announced. body: the arguments and what
    follows, for signal receivers.
    """

    id: str
    message: OutMessage
    event: dict[str, Any] | None
    body: TaskBody


class Caller:
    """Builds the messages of one app's calls. Thread: any; pure but for ids and the clock."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        origin: Origin,
        clock: Clock,
        lamport: LamportClock | None = None,
        serializers: ContentRegistry = DEFAULT_REGISTRY,
    ) -> None:
        self.router = router
        self.serializers = serializers
        self._settings = settings
        self._origin = origin
        self._clock = clock
        self._lamport = lamport or LamportClock()
        self._announce = settings.task_send_sent_event
        self._rules: dict[str, Rule] = {}
        self._events = event_exchange_of(settings)
        self._compression = settings.task_compression
        self._levels = settings.task_repr_maxlevels
        self._zone = zone_of_settings(settings.timezone, settings.enable_utc)
        self._mode = _MODES[settings.task_default_delivery_mode]

    def build(
        self,
        name: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        task: Any = None,
    ) -> Built:
        """Build the message of one call.

        options: those of the table in ``call_options``, the task's own defaults already merged in.
        Raises: UsageError for arguments, options or queues that cannot be; ConfigError for a
        serializer that does not exist.
        """
        check_call_options(name, options)
        args, kwargs = _arguments(name, args, kwargs)
        option = options.get
        now_s = self._clock.now()
        here = self._origin.here()
        place = (option("router") or self.router).route(name, args, kwargs, options, task)
        if place.extra:
            options = {**place.extra, **{key: value for key, value in options.items() if value is not None}}
            option = options.get
        when = self._due(options, now_s)
        id = option("task_id") or new_id()
        body = TaskBody(args, kwargs, _embed(options))
        data, content_type, encoding, compression = encode_body(
            body,
            option("serializer") or self._settings.task_serializer,
            option("compression") or self._compression,
            self.serializers,
        )
        headers = TaskHeaders(
            id=id,
            task=name,
            shadow=option("shadow"),
            eta=when.eta,
            expires=when.expires,
            group=option("group_id"),
            group_index=option("group_index"),
            retries=option("retries") or 0,
            timelimit=(option("time_limit"), option("soft_time_limit")),
            root_id=option("root_id") or id,
            parent_id=option("parent_id"),
            argsrepr=option("argsrepr") or saferepr(args, _REPR_CHARS, self._levels),
            kwargsrepr=option("kwargsrepr") or saferepr(kwargs, _REPR_CHARS, self._levels),
            origin=here.name,
            ignore_result=option("ignore_result"),
            replaced_task_nesting=option("replaced_task_nesting") or 0,
            stamped_headers=_stamp_names(options),
            stamps=_stamps(options),
            compression=compression,
            # Ours last: a retry carries the headers of the attempt before, and that one's time.
            user={**(option("headers") or _NO_OPTIONS), PUBLISHED_AT: now_s},
        )
        message = OutMessage(
            body=data,
            content_type=content_type,
            content_encoding=encoding,
            headers=headers_to_wire(headers),
            properties=self._properties(id, options, place, when, here),
            exchange=place.exchange,
            routing_key=place.routing_key,
            declare=place.declare,
        )
        event = None
        # Not built at all: one that is numbered and not sent is a gap, which monitors count as lost.
        if self._announce and (task is None or task.send_events):
            plain = compression is None and content_type == JSON_MIME
            shown = self._rule(name, task).shown(headers.argsrepr, headers.kwargsrepr, data if plain else None)
            event = self._event(headers, place, now_s, here) | shown_fields(shown)
        return Built(id, message, event, body)

    def _rule(self, name: str, task: Any) -> Rule:
        """How much is shown of the arguments of this task's calls."""
        rule = self._rules.get(name)
        if rule is None:
            rule = payload_rule(task, self._settings)
            if len(self._rules) < _MOST_RULES:
                self._rules[name] = rule
        return rule

    def event_message(self, event: Mapping[str, Any]) -> OutMessage:
        """The message that announces one call, a single object as Celery's clients send it."""
        return self._announcement(encode_event(event), "task.sent")

    def events_message(self, events: Sequence[Mapping[str, Any]]) -> OutMessage:
        """The message that announces several calls."""
        return self._announcement(encode_events(events), "task.multi")

    def own_event_message(self, kind: str, fields: Mapping[str, Any]) -> OutMessage:
        """The message of one event of the caller's own making. Raises: UsageError for a field that JSON cannot hold."""
        return self._announcement(encode_event({**self.event_fields(kind), **fields}), routing_key(kind))

    def event_fields(self, kind: str) -> dict[str, Any]:
        """The fields that every event of this process has."""
        here = self._origin.here()
        return {
            "type": kind,
            "hostname": here.name,
            "pid": here.pid,
            "clock": self._lamport.tick(),
            "utcoffset": here.utcoffset_h,
            "timestamp": self._clock.now(),
            "seq": next(here.numbers),
            "emitter": here.emitter,
        }

    def _announcement(self, body: bytes, routing_key: str) -> OutMessage:
        return OutMessage(
            body=body,
            content_type="application/json",
            content_encoding="utf-8",
            headers={"hostname": self._origin.name},
            properties={"delivery_mode": 1, "priority": 0},
            exchange=self._events.name,
            routing_key=routing_key,
            # Without it the first event of a client on AMQP closes the channel, and on Redis reaches nobody.
            declare=self._events,
        )

    def _due(self, options: Mapping[str, Any], now_s: float) -> Due:
        countdown, eta, expires = options.get("countdown"), options.get("eta"), options.get("expires")
        if countdown is None and eta is None and expires is None:
            return _NEVER_DUE
        return due(countdown, eta, expires, now_s, self._zone)

    def _properties(
        self, id: str, options: Mapping[str, Any], place: Destination, when: Due, here: Here
    ) -> dict[str, Any]:
        option = options.get
        priority = option("priority")
        if priority is None:
            priority = self._settings.task_default_priority or 0
        elif not isinstance(priority, int) or not 0 <= priority <= 255:
            raise UsageError(f"priority is a whole number from 0 to 255, got {priority!r}")
        mode = option("delivery_mode")
        properties: dict[str, Any] = {
            "correlation_id": option("correlation_id") or id,
            "reply_to": option("reply_to") or self._origin.reply_to(here),
            "delivery_mode": self._mode_of(mode) if mode is not None else place.delivery_mode or self._mode,
            "priority": priority,
        }
        if when.expiration_ms is not None:
            properties["expiration"] = when.expiration_ms
        if not AMQP_PROPERTIES.isdisjoint(options):
            for key in AMQP_PROPERTIES & options.keys():
                if options[key] is not None:
                    properties[key] = options[key]
        return properties

    def _mode_of(self, mode: object) -> int:
        found = _MODES.get(mode) if isinstance(mode, (int, str)) else None
        if found is None:
            raise UsageError(f"delivery_mode is 1 (transient) or 2 (persistent), got {mode!r}")
        return found

    def _event(self, headers: TaskHeaders, place: Destination, now_s: float, here: Here) -> dict[str, Any]:
        event: dict[str, Any] = {
            "type": "task-sent",
            "hostname": here.name,
            "pid": here.pid,
            "clock": self._lamport.tick(),
            "utcoffset": here.utcoffset_h,
            "timestamp": now_s,
            "uuid": headers.id,
            "root_id": headers.root_id,
            "parent_id": headers.parent_id,
            "name": headers.task,
            "retries": headers.retries,
            "eta": headers.eta,
            "expires": headers.expires,
            "queue": place.queue_name,
            "exchange": place.exchange,
            "routing_key": place.routing_key,
            "attempt": headers.retries + 1,
            "published_at": now_s,
            # A call that cannot be published leaves a gap, and the monitor counts one event that never came.
            "seq": next(here.numbers),
            "emitter": here.emitter,
        }
        if headers.group is not None:
            event["group_id"] = headers.group
        return event


def build_message(
    app: Opsq,
    task_name: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] = _NO_OPTIONS,
) -> tuple[OutMessage, dict[str, Any] | None]:
    """Build the message of one call of ``app`` and the fields of its ``task-sent`` event; send nothing."""
    built = app.caller.build(task_name, args, kwargs, options, app.tasks.get(task_name))
    return built.message, built.event


def plain_signature(value: Any, what: str) -> dict[str, Any]:
    """Copy a signature into plain dicts and lists, as it goes on the wire.

    Raises: UsageError when it is not a signature.
    """
    if not isinstance(value, Mapping) or "task" not in value:
        raise UsageError(f"{what} is a signature, such as add.s(1), got {value!r:.80}")
    return {str(key): _plain(part) for key, part in value.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def signature_list(value: Any, what: str) -> list[dict[str, Any]] | None:
    """Read one signature or several into a list of plain ones; none when there is none."""
    if not value:
        return None
    several: Iterable[Any] = [value] if isinstance(value, Mapping) else value
    if isinstance(several, (str, bytes)) or not isinstance(several, Iterable):
        raise UsageError(f"{what} is a signature or a list of them, got {value!r:.80}")
    return [plain_signature(each, what) for each in several]


def _embed(options: Mapping[str, Any]) -> Embed:
    if _FOLLOWERS.isdisjoint(options):
        return NO_EMBED
    link, link_error, chain, chord = (options.get(key) for key in ("link", "link_error", "chain", "chord"))
    if not (link or link_error or chain or chord):
        return NO_EMBED
    return Embed(
        callbacks=signature_list(link, "link"),
        errbacks=signature_list(link_error, "link_error"),
        chain=signature_list(chain, "chain"),
        chord=plain_signature(chord, "chord") if chord else None,
    )


def _arguments(
    name: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[list[Any] | tuple[Any, ...], dict[str, Any]]:
    if args is None:
        args = ()
    elif not isinstance(args, (list, tuple)):
        raise BadArguments(
            f"args of a call of {name!r} is a list or tuple, got {args!r:.80}; for one argument write [x]"
        )
    if kwargs is None:
        kwargs = {}
    elif not isinstance(kwargs, Mapping):
        raise BadArguments(f"kwargs of a call of {name!r} is a dict, got {kwargs!r:.80}")
    return args, kwargs if type(kwargs) is dict else dict(kwargs)


def _stamp_names(options: Mapping[str, Any]) -> list[str] | None:
    names = options.get("stamped_headers")
    return list(names) if names is not None else None


def _stamps(options: Mapping[str, Any]) -> dict[str, Any]:
    names = options.get("stamped_headers")
    stamps = options.get("stamps")
    if not names:
        return dict(stamps) if stamps else {}
    return {**(stamps or {}), **{name: options[name] for name in names if name in options}}
