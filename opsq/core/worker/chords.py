"""What a worker does for chords: count a part, complete a chord, fail what will never run.

Whoever counts the last part publishes the body, then marks the chord done. A worker that is killed in
between is repaired by its task's next run, or by ``sweep``. Both publish the body under the same id; the
first of these messages that starts is the one that runs (``RUN_HEADER``).

Source: celery-protocol D.4, A.6 "Errbacks".
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from opsq.core.chord_store import RUN_HEADER, UNLOCK, ChordLost, ChordStore, counts
from opsq.core.request import Context
from opsq.core.result_store import ResultStore
from opsq.core.worker.record import Recorder
from opsq.errors import ChordError, MalformedMessage, OpsqError, Unavailable, UsageError
from opsq.wire.result import ResultRef
from opsq.wire.signature import Call, Chain, Chord, Group, Signature, parse_signature
from opsq.wire.states import READY_STATES
from opsq.wire.task import TaskHeaders

log = logging.getLogger(__name__)


class Publishes(Protocol):
    """What ``Chords`` needs of ``core/worker/follow.py``."""

    def body(self, signature: dict[str, Any], args: Sequence[Any], group_id: str, by: TaskHeaders | None) -> list[Any]:
        """Plan the body of a chord."""
        ...

    def publish(self, plan: Sequence[Any], headers: Mapping[str, Any] | None = None) -> None:
        """Publish a plan; headers: added to each call."""
        ...

    def tell_errbacks(self, headers: TaskHeaders, request: Context, exc: BaseException, text: str | None) -> None:
        """Publish and call the error callbacks of a call that will never run."""
        ...


class Chords:
    """The chords of one app's tasks. Thread: any."""

    def __init__(self, app: Any, recorder: Recorder, follower: Publishes) -> None:
        self.counting = counts(app.backend)
        self._store = ChordStore(app.backend, app.settings)
        self._recorder = recorder
        self._follower = follower

    def part(self, headers: TaskHeaders, request: Context, state: str, result: Any) -> None:
        """Count the end of a header task, and complete the chord when it was the last.

        Raises: Unavailable when the store or the broker does not answer; the task's message goes back then.
        """
        group_id, body = request.group, request.chord
        if group_id and body and self.counting:
            self._count(group_id, headers.id, request.group_index, body, state, result, headers)

    def may_start(self, headers: TaskHeaders) -> bool:
        """Whether this message is the one that runs the body; true for everything that is no body."""
        run = headers.user.get(RUN_HEADER)
        if not isinstance(run, str) or not self.counting:
            return True
        try:
            return self._store.may_start(headers.id, run)
        except Unavailable as exc:
            log.warning("a chord's body starts unchecked", extra={"task_id": headers.id, "error": str(exc)})
            return True

    def assist(self, group_id: str, body: dict[str, Any], members: Sequence[ResultRef], store: ResultStore) -> bool:
        """Count the members that workers ran which cannot count, such as Celery's on SQL; false to look again later.

        Raises: Unavailable.
        """
        if not self._store.is_open(group_id):
            return True
        known = store.load_many([member.id for member in members])
        ended = [known[member.id] for member in members if member.id in known]
        if len(ended) < len(members) or any(meta.status not in READY_STATES for meta in ended):
            return False
        for index, meta in enumerate(ended):
            # Never in the task's own name: it may be completing the chord at this moment.
            token = self._store.part(group_id, meta.task_id, index, meta.status, meta.result, holder=UNLOCK)
            if token is not None:
                self._complete(group_id, token, body, None)
        return True

    def sweep(self) -> int:
        """Complete the chords whose worker died while it did; how many."""
        if not self.counting:
            return 0
        done = 0
        for due in self._store.due():
            token = self._store.take_over(due.group_id)
            if token is not None:
                log.warning("a chord is completed for a worker that did not", extra={"group_id": due.group_id})
                self._complete(due.group_id, token, due.body, None)
                done += 1
        return done

    def fail_later(self, later: Sequence[Any], headers: TaskHeaders, exc: BaseException, text: str | None) -> None:
        """Store FAILURE for calls that will never run, or their clients would wait for ever.

        Their chords are told as well. Raises: Unavailable.
        """
        for signature in later:
            try:
                node = parse_signature(signature)
            except MalformedMessage as broken:
                log.warning("what follows a failed task cannot be read", extra={"error": str(broken)})
                continue
            for call in _calls(node):
                self._fail_call(call, headers, exc, text)

    def fail_body(self, signature: dict[str, Any], exc: BaseException, by: TaskHeaders | None) -> None:
        """Fail the body of a chord whose header failed, and call its error callbacks. Raises: Unavailable."""
        headers = by or TaskHeaders(id="", task="")
        self.fail_later([signature], headers, exc, None)
        for call in _first_to_fail(parse_signature(signature)):
            id = str(call.options.get("task_id") or "")
            errbacks = call.options.get("link_error")
            if errbacks and id:
                listed = [errbacks] if isinstance(errbacks, Mapping) else list(errbacks)
                request = Context(
                    id=id, task=call.task, args=call.args, kwargs=call.kwargs, errbacks=listed, called_directly=False
                )
                about = TaskHeaders(id=id, task=call.task, root_id=headers.root_id or id)
                self._follower.tell_errbacks(about, request, exc, None)

    def _count(
        self,
        group_id: str,
        task_id: str,
        index: int | None,
        body: dict[str, Any],
        state: str,
        result: Any,
        by: TaskHeaders,
    ) -> None:
        try:
            token = self._store.part(group_id, task_id, index, state, result)
        except UsageError as exc:
            token = self._store.part(group_id, task_id, index, "FAILURE", RuntimeError(str(exc)))
        if token is not None:
            self._complete(group_id, token, body, by)

    def _complete(self, group_id: str, token: str, body: dict[str, Any], by: TaskHeaders | None) -> None:
        try:
            results = self._store.results(group_id, token, body)
            plan = self._follower.body(body, (results,), group_id, by)
        except ChordLost as lost:
            log.info("a chord was completed elsewhere", extra={"reason": str(lost)})
            return
        except (ChordError, MalformedMessage, UsageError) as exc:
            failed = exc if isinstance(exc, ChordError) else ChordError(str(exc))
            self.fail_body(body, failed, by)
            self._store.close(group_id, token)
            return
        self._follower.publish(plan, {RUN_HEADER: uuid.uuid4().hex})
        self._store.close(group_id, token)

    def _fail_call(self, call: Call, headers: TaskHeaders, exc: BaseException, text: str | None) -> None:
        options = call.options
        id = options.get("task_id")
        if not isinstance(id, str) or not id:
            return
        member = TaskHeaders(
            id=id, task=call.task, parent_id=headers.id or None, root_id=headers.root_id, group=options.get("group_id")
        )
        self._recorder.write(member, "FAILURE", exc, traceback=text)
        group_id, body = options.get("group_id"), options.get("chord")
        if group_id and isinstance(body, dict) and self.counting:
            self._count(str(group_id), id, options.get("group_index"), body, "FAILURE", exc, member)
        rest = options.get("chain")
        if rest:
            self.fail_later(list(rest), headers, exc, text)


def _calls(node: Signature) -> Iterator[Call]:
    """Every call in it."""
    if isinstance(node, Call):
        yield node
        return
    parts: Sequence[Signature]
    if isinstance(node, Chord):
        header = node.header.tasks if isinstance(node.header, Group) else node.header
        parts = [*header, *([node.body] if node.body is not None else [])]
    else:
        parts = [*node.tasks, *map(parse_signature, node.options.get("chain") or ())]
    for part in parts:
        yield from _calls(part)


def _first_to_fail(node: Signature) -> Iterator[Call]:
    """The calls whose error callbacks speak for the whole, each with an id that a client may hold."""
    if isinstance(node, Call):
        yield node
    elif isinstance(node, Group):
        for member in node.tasks:
            yield from _first_to_fail(member)
    elif isinstance(node, Chain) and node.tasks:
        yield from _first_to_fail(node.tasks[0])
    elif isinstance(node, Chord) and node.body is not None:
        yield from _first_to_fail(node.body)


def quietly(work: Any, what: str, task_id: str) -> None:
    """Do what a broken store or broker may refuse, for a task whose own end is settled already."""
    try:
        work()
    except OpsqError as exc:
        log.error("%s could not be done", what, extra={"task_id": task_id, "error": str(exc)})
