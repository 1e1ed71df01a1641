"""Plan a group whose tasks are made while they are published. Pure.

The ids of its members are uuid5 of the group's id and the position, so nobody has to remember them:
neither the client, for a million members, nor its handle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from msgspec import structs

from opsq.core.canvas import Opening, Planner, Step, handle_of
from opsq.core.canvas_options import TAIL, Fitter, flat_members, with_tail_options
from opsq.errors import UsageError
from opsq.wire.result import ResultRef
from opsq.wire.signature import Call, Chord, Group, parse_signature, signature_to_wire
from opsq.wire.signature import Signature as Node


class Stream:
    """One group, or a chord with ``body``, planned a member at a time. options: of the call.

    size, refs: once it was gone through: how many members there were, and the handles of those whose
    id is not ``member_id``. end: the handle of the body.
    """

    def __init__(self, planner: Planner, body: Node | None, options: Mapping[str, Any]) -> None:
        if options.get("link") and body is None:
            raise UsageError("link= cannot be given to a group as a whole; link a task of it, or make it a chord")
        self._planner = planner
        self._fitter = Fitter(False)
        self.size = 0
        self.refs: dict[int, ResultRef] = {}
        self.end: ResultRef | None = None
        whole = {key: value for key, value in options.items() if value is not None}
        self.group_id = str((None if body is not None else whole.get("task_id")) or planner.make_id())
        self._body: dict[str, Any] | None = None
        names = [key for key in whole if key in ("interval", "max_retries")]
        self._unlock = {key: whole.pop(key) for key in names}
        if body is None:
            self._shared = {key: value for key, value in whole.items() if key not in TAIL}
            return
        # The chord's options go where they belong: those of the header to every member.
        probe = planner.fix(Fitter(False).give(Chord(header=(Call(task="probe"),), body=body), whole))
        if not isinstance(probe, Chord) or not isinstance(probe.header, Group) or probe.body is None:
            raise UsageError("a chord needs a body")
        options_of_member = dict(probe.header.tasks[0].options)
        self._shared = {key: value for key, value in options_of_member.items() if key not in TAIL}
        self._body = signature_to_wire(probe.body)
        self.end = handle_of(probe.body)

    def steps(self, tasks: Iterable[Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Step]:
        """List what to publish. The size of a chord comes just before its last member."""
        held: list[Step] = []
        for task in tasks:
            for member in self._members(parse_signature(task)):
                yield from held
                held = list(self._planner.emit(self._placed(member), tuple(args), kwargs))
        if self._body is not None:
            if self.size == 0:
                yield from self._planner.emit(self._planner.fix(parse_signature(self._body)), ([],), {})
            else:
                yield Opening(self.group_id, self.size, self._body, self.refs_of_all, self._unlock)
        yield from held

    def refs_of_all(self) -> list[ResultRef]:
        """The handles of all members so far."""
        return list(map(self.ref, range(self.size)))

    def ref(self, index: int) -> ResultRef:
        """The handle of one member."""
        return self.refs.get(index) or ResultRef(member_id(self.group_id, index))

    def _members(self, node: Node) -> Iterable[Node]:
        return flat_members(node, self._fitter) if isinstance(node, Group) else (node,)

    def _placed(self, node: Node) -> Node:
        if self._shared:
            node = self._fitter.give(node, self._shared)
        index, self.size = self.size, self.size + 1
        if isinstance(node, Call) and not node.options.get("task_id"):
            node = structs.replace(node, options={**node.options, "task_id": member_id(self.group_id, index)})
            return self._in_chord(self._planner.member(node, self.group_id, index))
        part = self._planner.part if self._body is not None else self._planner.member
        fixed = part(node, self.group_id, index)
        self.refs[index] = handle_of(fixed)
        return self._in_chord(fixed)

    def _in_chord(self, node: Node) -> Node:
        return with_tail_options(node, {"chord": self._body}) if self._body is not None else node


def member_id(group_id: str, index: int) -> str:
    """The id of a member of a group that is published as it is made."""
    try:
        space = UUID(group_id)
    except ValueError:
        space = uuid5(UUID(int=0), group_id)
    return str(uuid5(space, str(index)))
