"""The bookkeeping of chords, between records and a backend that counts: parts in, the list of results out.

A part is one header task's end, known by its task id: reported twice it counts once. Whoever reports the
last one holds the chord until the body is published. The holder's token follows from the task's id, so
when a worker is killed in between, the same task, run again, takes the chord over at once; whoever else
asks waits until the claim has run out (the sweeper does).

Source: celery-protocol D.4, D.6.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from opsq.core.backends.chords import ChordCounting
from opsq.core.backends.registry import scheme_of
from opsq.core.canvas import Opening, Planned
from opsq.errors import ChordError, MalformedMessage, UsageError
from opsq.wire.exceptions import exception_from_wire, exception_to_wire
from opsq.wire.result import ref_to_wire
from opsq.wire.states import EXCEPTION_STATES, PROPAGATE_STATES

if TYPE_CHECKING:
    from opsq.core.app import Opsq
    from opsq.core.result_store import ResultStore
    from opsq.settings import Settings

UNLOCK: Final = "celery.chord_unlock"
#: Names the one publishing of a body that may run; see ``ChordStore.may_start``.
RUN_HEADER: Final = "opsq_chord_run"
_DONE_S: Final = 300.0


class Due(NamedTuple):
    """A chord that nobody holds though all its parts are there."""

    group_id: str
    body: dict[str, Any]


class ChordStore:
    """Chords in a result store that counts. Thread: any. Every method raises BackendUnavailable."""

    def __init__(self, store: ResultStore, settings: Settings) -> None:
        self._store = store
        self._serializer = settings.result_serializer
        self._backend = cast(ChordCounting, store.backend)
        expires = settings.result_chord_expires
        self._ttl_s = (settings.result_expires if expires is None else expires) or None
        self.claim_s = float(max(5, int((settings.result_chord_join_timeout or 5.0) * 2)))

    def open(self, group_id: str, size: int) -> None:
        """Say how many parts there will be; begins a new run of the chord."""
        self._backend.chord_open(group_id, size, self._ttl_s)

    def grow(self, group_id: str, more: int) -> None:
        """Wait for ``more`` parts than were announced."""
        self._backend.chord_grow(group_id, more, self._ttl_s)

    def part(
        self, group_id: str, task_id: str, index: int | None, state: str, result: Any, holder: str | None = None
    ) -> str | None:
        """Count a header task's end; a token when the chord is complete and now held by the caller.

        holder: who completes it then, where that is not the task itself.
        """
        token = uuid.uuid5(uuid.NAMESPACE_OID, f"{group_id}:{holder or task_id}").hex
        if isinstance(result, BaseException) and state in EXCEPTION_STATES:
            result = exception_to_wire(result, self._serializer)
        payload = self._store.pack([1, task_id, state, result])
        held = self._backend.chord_part(group_id, task_id, index, payload, token, self.claim_s, self._ttl_s)
        return token if held else None

    def results(self, group_id: str, token: str, body: dict[str, Any]) -> list[Any]:
        """The results in order; keeps the chord held, and its body for the sweeper.

        Raises: ChordError naming the first part that failed.
        """
        if not self._backend.chord_hold(group_id, token, self.claim_s, self._store.pack(body), self._ttl_s):
            raise ChordLost(f"chord {group_id} is held by somebody else by now")
        saved = self._store.load_group(group_id)
        if saved is not None and any(child.children is not None for child in saved.children or ()):
            return [self._saved(child) for child in saved.children or ()]
        parts = self._backend.chord_parts(group_id)
        if not parts:
            raise ChordLost(f"chord {group_id} was completed in between")
        return [self._value(payload) for payload in parts]

    def is_open(self, group_id: str) -> bool:
        """Whether parts are still waited for, or the body is being published."""
        return self._backend.chord_is_open(group_id)

    def close(self, group_id: str, token: str) -> None:
        """The body is published, or has failed: later parts count for nothing."""
        self._backend.chord_close(group_id, token, max(self.claim_s * 2, _DONE_S))

    def due(self) -> list[Due]:
        """The chords whose holder let its claim run out."""
        found = []
        for group_id, payload in self._backend.chord_due():
            body = self._store.unpack(payload)
            if isinstance(body, dict):
                found.append(Due(group_id, body))
        return found

    def take_over(self, group_id: str) -> str | None:
        """Hold a chord that nobody holds; a token, or none when somebody was quicker."""
        token = uuid.uuid4().hex
        return token if self._backend.chord_take(group_id, token, self.claim_s) else None

    def may_start(self, task_id: str, run: str) -> bool:
        """Whether this publishing of a body is the one to run; another one started already otherwise."""
        return self._backend.chord_start(task_id, run, self._ttl_s)

    def _value(self, payload: bytes) -> Any:
        part = self._store.unpack(payload)
        if not isinstance(part, (list, tuple)) or len(part) != 4:
            raise MalformedMessage(f"a part of a chord is [1, id, state, result], got {part!r:.80}")
        _one, task_id, state, result = part
        if state in PROPAGATE_STATES:
            error = exception_from_wire(result) if not isinstance(result, BaseException) else result
            raise ChordError(f"Dependency {task_id} raised {error!r}")
        return exception_from_wire(result) if state in EXCEPTION_STATES else result

    def _saved(self, ref: Any) -> Any:
        """The values of a header with groups in it, in its shape; only Celery's clients make such."""
        if ref.children is not None:
            return [self._saved(child) for child in ref.children]
        meta = self._store.load(ref.id)
        if meta.status in PROPAGATE_STATES:
            raise ChordError(f"Dependency {ref.id} raised {exception_from_wire(meta.result)!r}")
        return meta.result


class ChordLost(ChordError):
    """Somebody else completes the chord."""


class NoResultStore(UsageError, NotImplementedError):
    """A chord was published where nothing keeps its header's results."""


def counts(store: ResultStore) -> bool:
    """Whether this store counts the parts of chords by itself."""
    return store.enabled and store.backend.capabilities.counts


def open_chord(app: Opsq, opening: Opening) -> Planned | None:
    """Announce a chord; a call to publish with it where the store cannot count, or Celery's workers cannot.

    Raises: UsageError when there is no store that could keep the header's results.
    """
    store = app.backend
    if not store.enabled or scheme_of(app.settings.resolved_result_backend() or "") == "rpc":
        raise NoResultStore(
            "a chord needs a result store to gather its header's results; "
            "set result_backend, for example redis://localhost or sqlite:////var/lib/app/results.db"
        )
    settings = app.settings
    body = opening.body
    if counts(store):
        ChordStore(store, settings).open(opening.group_id, opening.size)
        if store.backend.capabilities.counted_by_celery:
            return None
        body = _marked(body, opening.group_id)
    body_options = body.get("options") or {}
    interval = opening.options.get("interval")
    place = {key: body_options[key] for key in ("queue", "exchange", "routing_key", "priority") if key in body_options}
    return Planned(
        UNLOCK,
        (opening.group_id, body),
        {
            "interval": interval,
            "max_retries": opening.options.get("max_retries"),
            "result": [ref_to_wire(member) for member in opening.members()],
        },
        {"countdown": interval or settings.result_chord_retry_interval, "add_to_parent": False, **place},
    )


def is_counted(body: Mapping[str, Any]) -> bool:
    """Whether the chord of this body, as an unlocking task has it, is counted as well."""
    return RUN_HEADER in ((body.get("options") or {}).get("headers") or {})


def _marked(body: dict[str, Any], group_id: str) -> dict[str, Any]:
    """The body for the unlocking task of a counted chord: published twice, it is one publishing of two that may run."""
    options = dict(body.get("options") or {})
    run = uuid.uuid5(uuid.NAMESPACE_OID, f"{group_id}:unlock").hex
    return {**body, "options": {**options, "headers": {**(options.get("headers") or {}), RUN_HEADER: run}}}


def values_of(store: ResultStore, refs: Sequence[Any]) -> list[Any] | None:
    """The results of a header where they are stored, or none while one is missing.

    Raises: ChordError naming the first that failed.
    """
    from_ids = store.load_many(_ids(refs))
    return _shaped(refs, from_ids)


def _ids(refs: Sequence[Any]) -> list[str]:
    ids: list[str] = []
    for ref in refs:
        ids.extend([ref.id] if ref.children is None else _ids(ref.children))
    return ids


def _shaped(refs: Sequence[Any], metas: dict[str, Any]) -> list[Any] | None:
    values: list[Any] = []
    for ref in refs:
        if ref.children is not None:
            inner = _shaped(ref.children, metas)
            if inner is None:
                return None
            values.append(inner)
            continue
        meta = metas.get(ref.id)
        if meta is None or meta.status not in ("SUCCESS", *PROPAGATE_STATES):
            return None
        if meta.status in PROPAGATE_STATES:
            raise ChordError(f"Dependency {ref.id} raised {exception_from_wire(meta.result)!r}")
        values.append(meta.result)
    return values
