"""Plan a workflow: fix every id, then list what to publish now. Pure.

Nodes are those of ``wire/signature.py``. A plan is made in three steps, each a walk over the tree:
``canvas_options`` gives the options of the whole to the nodes they belong to, ``fix`` brings the tree
into the one form that is published and gives every call its id, ``emit`` lists the calls to publish now.
What comes later travels inside them. Whoever publishes that later plans it again: ids that are fixed stay.

Source: celery-protocol A.6. One rule of our own keeps counting simple: every member of a chord's header
is exactly one part. A member that ends in a group becomes a chord with ``celery.accumulate``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec import structs

from opsq.core.canvas_options import (
    Fitter,
    flat_members,
    followed_by,
    joined_options,
    listed,
    merge_options,
    with_tail_options,
)
from opsq.errors import UsageError
from opsq.wire.result import ResultRef
from opsq.wire.signature import Call, Chain, Chord, Group, signature_to_wire
from opsq.wire.signature import Signature as Node

__all__ = ["Opening", "Plan", "Planned", "Planner", "Step", "merge_options"]

NewId = Callable[[], str]

ACCUMULATE: Final = "celery.accumulate"
_NONE: Final[Mapping[str, Any]] = {}


class Planned(NamedTuple):
    """One call to publish now, with its id in ``options``."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]


class Opening(NamedTuple):
    """A chord whose header comes next: its size must be known before the last member is published.

    members: their handles, for stores that cannot count.
    """

    group_id: str
    size: int
    body: dict[str, Any]
    members: Callable[[], Sequence[ResultRef]]
    options: dict[str, Any]


Step = Planned | Opening


class Plan(NamedTuple):
    """What to do now, in order, and the handle of the whole."""

    steps: tuple[Step, ...]
    result: ResultRef

    @property
    def calls(self) -> tuple[Planned, ...]:
        """The calls among the steps."""
        return tuple(step for step in self.steps if isinstance(step, Planned))


class Planner:
    """Plans workflows.

    new_id: makes an id. reply_to: address that every later call carries. header_errbacks: the error
    callbacks of a chord are its header's too (``task_allow_error_cb_on_chord_header``).
    """

    def __init__(self, new_id: NewId, reply_to: str | None = None, header_errbacks: bool = False) -> None:
        self._new_id = new_id
        self._reply_to = reply_to
        self._fitter = Fitter(header_errbacks)

    def make_id(self) -> str:
        """A new id."""
        return self._new_id()

    def plan(
        self,
        node: Node,
        args: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Plan:
        """Plan ``node`` called with ``args`` before its own, and with ``options`` over its own.

        Raises: UsageError for a form that cannot be planned.
        """
        fixed = self.fix(self._fitter.give(node, options or {}))
        return Plan(tuple(self.emit(fixed, tuple(args), kwargs or _NONE)), handle_of(fixed))

    def fix(self, node: Node) -> Node:
        """Bring ``node`` into the form that is published, every id fixed. Idempotent."""
        if isinstance(node, Call):
            return self._with_id(node)
        if isinstance(node, Chain):
            return self._fix_chain(node)
        if isinstance(node, Group):
            return self._fix_group(node)
        return self._fix_chord(node)

    def emit(self, node: Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Step]:
        """List what to publish now of a fixed node, in order."""
        if isinstance(node, Call):
            called = node if node.immutable else _called(node, args, kwargs)
            yield Planned(called.task, called.args, dict(called.kwargs), dict(called.options))
            return
        if node.immutable:
            args, kwargs = node.args, node.kwargs
        else:
            args, kwargs = (*args, *node.args), {**node.kwargs, **kwargs}
        if isinstance(node, Chain):
            yield from self._emit_chain(node, args, kwargs)
        elif isinstance(node, Group):
            for member in node.tasks:
                yield from self.emit(member, args, kwargs)
        else:
            yield from self._emit_chord(node, args, {key: value for key, value in kwargs.items() if key != "kwargs"})

    def member(self, node: Node, group_id: str, index: int) -> Node:
        """Fix one member of a group, its place in the group at its end."""
        return self.fix(with_tail_options(node, {"group_id": group_id, "group_index": index}))

    def part(self, node: Node, group_id: str, index: int) -> Node:
        """Fix one member of a chord's header: as ``member``, and made exactly one part of it."""
        return self.member(self._one_part(node), group_id, index)

    def _fix_chain(self, node: Chain) -> Node:
        steps = self._steps(node)
        if not steps:
            raise UsageError("a chain needs at least one task")
        rest = {key: value for key, value in node.options.items() if key == "chain"}
        fixed = [self.fix(self._later(step) if position else step) for position, step in enumerate(steps)]
        return Chain(tasks=tuple(fixed), args=node.args, kwargs=node.kwargs, options=rest, immutable=node.immutable)

    def _steps(self, node: Chain) -> list[Node]:
        """The steps of a chain: chains in it unrolled, a group that something follows made a chord's header."""
        steps = self._unrolled(node)
        folded: list[Node] = []
        while steps:
            step = steps.pop()
            if isinstance(step, Chain):
                steps.extend(self._unrolled(step))
            elif folded and isinstance(step, Group):
                members = flat_members(step, self._fitter)
                if len(members) == 1:
                    steps.append(members[0])
                elif members:
                    folded.append(Chord(header=step, body=folded.pop()))
            elif folded and isinstance(step, Chord) and isinstance(tail_of(step), Group):
                steps.append(followed_by(step, folded.pop()))
            else:
                folded.append(step)
        return folded[::-1]

    def _unrolled(self, node: Chain) -> list[Node]:
        steps: list[Node] = []
        for task in node.tasks:
            step = self._fitter.settle(task)
            if isinstance(step, Chain):
                inner = self._unrolled(step)
                if inner and not step.immutable:
                    inner[0] = _with_arguments(inner[0], step.args, step.kwargs)
                steps.extend(inner)
            elif not (isinstance(step, Group) and not step.tasks):
                steps.append(step)
        return steps

    def _fix_group(self, node: Group) -> Group:
        group_id = str(node.options.get("task_id") or self._new_id())
        flat = enumerate(flat_members(node, self._fitter))
        outer = {key: node.options[key] for key in ("chord", "group_id") if node.options.get(key)}
        if "chord" not in outer:
            members = tuple(self.member(member, group_id, index) for index, member in flat)
            return structs.replace(node, tasks=members, options={"task_id": group_id})
        # Made by Celery for a header that it counts by itself: the members are parts of the outer chord.
        parts = tuple(
            self.fix(with_tail_options(member, {"group_id": group_id, "group_index": index, **outer}, keep=True))
            for index, member in flat
        )
        return structs.replace(node, tasks=parts, options={"task_id": group_id, **outer})

    def _fix_chord(self, node: Chord) -> Node:
        node = self._fitter.settle_chord(node)
        if node.body is None:
            raise UsageError("a chord needs a body: chord(header, body), or chord(header)(body)")
        header = node.header if isinstance(node.header, Group) else Group(tasks=node.header)
        group_id = str(header.options.get("task_id") or node.options.get("task_id") or self._new_id())
        parts = tuple(
            self.part(member, group_id, index) for index, member in enumerate(flat_members(header, self._fitter))
        )
        return structs.replace(
            node,
            header=structs.replace(header, tasks=parts, options={"task_id": group_id}),
            body=self.fix(self._later(node.body)),
            options={**node.options, "task_id": group_id},
        )

    def _one_part(self, node: Node) -> Node:
        """Make a member that ends in a group end in one call that gathers the group's results."""
        if not isinstance(tail_of(node), Group):
            return node
        return followed_by(node, Call(task=ACCUMULATE, kwargs={"index": 0}), unfix=True)

    def _emit_chain(self, node: Chain, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Step]:
        first, *later = node.tasks
        rest = [*listed(node.options.get("chain")), *(signature_to_wire(step) for step in reversed(later))]
        yield from self.emit(_with_rest(first, rest) if rest else first, args, kwargs)

    def _emit_chord(self, node: Chord, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Step]:
        header, body = node.header, node.body
        if not isinstance(header, Group) or body is None:
            raise UsageError("a chord is planned before it is emitted")
        if not header.tasks:
            yield from self.emit(body, ([],), _NONE)
            return
        group_id, wire = str(header.options["task_id"]), signature_to_wire(body)
        members = partial(_handles, header)
        yield Opening(group_id, len(header.tasks), wire, members, dict(node.options))
        if not header.immutable:
            args, kwargs = (*args, *header.args), {**header.kwargs, **kwargs}
        for member in header.tasks:
            yield from self.emit(with_tail_options(member, {"chord": wire}), args, kwargs)

    def _later(self, node: Node) -> Node:
        """Give a call that is published later the address for its result."""
        if self._reply_to is None or not isinstance(node, Call) or node.options.get("reply_to"):
            return node
        return structs.replace(node, options={**node.options, "reply_to": self._reply_to})

    def _with_id(self, call: Call) -> Call:
        if call.options.get("task_id"):
            return call
        return structs.replace(call, options={**call.options, "task_id": self._new_id()})


def tail_of(node: Node) -> Node:
    """The node whose result is the result of ``node``."""
    while True:
        if isinstance(node, Chain) and node.tasks:
            node = node.tasks[-1]
        elif isinstance(node, Chord) and node.body is not None:
            node = node.body
        else:
            return node


def handle_of(node: Node) -> ResultRef:
    """The handle of a fixed node; what runs before its end is its parents."""
    if isinstance(node, Call):
        return ResultRef(str(node.options["task_id"]))
    if isinstance(node, Group):
        return ResultRef(str(node.options["task_id"]), None, tuple(map(handle_of, node.tasks)))
    if isinstance(node, Chord):
        header, body = node.header, node.body
        if not isinstance(header, Group) or body is None:
            raise UsageError("a chord has a handle once it is planned")
        return under(handle_of(body), handle_of(header))
    ref: ResultRef | None = None
    for step in node.tasks:
        ref = handle_of(step) if ref is None else under(handle_of(step), ref)
    if ref is None:
        raise UsageError("a chain needs at least one task")
    return ref


def _handles(group: Group) -> list[ResultRef]:
    return list(map(handle_of, group.tasks))


def under(ref: ResultRef, parent: ResultRef) -> ResultRef:
    """``ref`` with ``parent`` before the first of its parents."""
    return structs.replace(ref, parent=parent if ref.parent is None else under(ref.parent, parent))


def _called(node: Call, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    if node.immutable or not (args or kwargs):
        return node
    return structs.replace(node, args=(*args, *node.args), kwargs={**node.kwargs, **kwargs})


def _with_arguments(node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Node:
    if node.immutable or not (args or kwargs):
        return node
    return structs.replace(node, args=(*args, *node.args), kwargs={**node.kwargs, **kwargs})


def _with_rest(node: Node, rest: list[dict[str, Any]]) -> Node:
    """``node`` with what comes after it; the next is the last of the list."""
    if isinstance(node, Call):
        return structs.replace(node, options=joined_options(node.options, {"chain": rest}))
    if isinstance(node, Chain):
        return structs.replace(node, options=joined_options(node.options, {"chain": rest}))
    if isinstance(node, Chord) and node.body is not None:
        return structs.replace(node, body=_with_rest(node.body, rest))
    raise UsageError("a group that something follows is planned as a chord")
