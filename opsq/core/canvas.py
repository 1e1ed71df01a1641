"""Plan a workflow: fix every id, then list the calls to publish now. Pure.

Nodes are those of ``wire/signature.py``. Ids are fixed before anything is published, so that handles
can be given out, results can name their children, and publishing again publishes the same calls.

Source: celery-protocol A.6. Chains, groups, and a group at the end of a chain; chords are refused in
one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import structs

from opsq.errors import UsageError
from opsq.wire.result import ResultRef
from opsq.wire.signature import Call, Chain, Group, signature_to_wire
from opsq.wire.signature import Signature as Node

NewId = Callable[[], str]

#: Options of a workflow as a whole that its members must not inherit one by one.
_OF_THE_WHOLE: Final = frozenset({"task_id", "link", "link_error", "group_id", "group_index", "chain"})


class Planned(NamedTuple):
    """One call to publish now, with its id in ``options``."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]


class Plan(NamedTuple):
    """What to publish now, in order, and the handle of the whole."""

    calls: tuple[Planned, ...]
    result: ResultRef


class Planner:
    """Plans one workflow.

    new_id: makes an id. reply_to: address that every later call of a chain carries.
    """

    def __init__(self, new_id: NewId, reply_to: str | None = None) -> None:
        self._new_id = new_id
        self._reply_to = reply_to

    def plan(self, node: Node, args: Sequence[Any] = (), options: Mapping[str, Any] | None = None) -> Plan:
        """Plan ``node`` called with ``args`` before its own, and with ``options`` over its own.

        Raises: UsageError for a form that cannot be planned.
        """
        options = dict(options or {})
        if isinstance(node, Call):
            return self._plan_call(node, tuple(args), options)
        if isinstance(node, Chain):
            return self._plan_chain(node, tuple(args), options)
        if isinstance(node, Group):
            return self._plan_group(node, tuple(args), options)
        raise _no_chords()

    def _plan_call(self, node: Call, args: tuple[Any, ...], options: dict[str, Any]) -> Plan:
        call = self._fixed(_with_args(node, args), options)
        planned = Planned(call.task, call.args, dict(call.kwargs), dict(call.options))
        return Plan((planned,), ResultRef(str(call.options["task_id"])))

    def _plan_chain(self, node: Chain, args: tuple[Any, ...], options: dict[str, Any]) -> Plan:
        steps = self._steps(node)
        if not steps:
            raise UsageError("a chain needs at least one task")
        whole = {**node.options, **options}
        steps = _with_links(steps, whole)
        members = {key: value for key, value in whole.items() if key in ("group_id", "group_index", "chord")}
        first_only = {key: value for key, value in whole.items() if key not in _OF_THE_WHOLE and key != "chord"}
        last = {**members, **({"task_id": whole["task_id"]} if whole.get("task_id") else {})}
        fixed: list[Node] = []
        for position, step in enumerate(steps):
            own = {**(first_only if position == 0 else {}), **(last if position == len(steps) - 1 else {})}
            own.update({"reply_to": self._reply_to} if self._reply_to and position else {})
            fixed.append(self._fixed_step(step, own))
        head = fixed[0]
        if isinstance(head, Group):
            return self._plan_group(head, args, {})
        if not isinstance(head, Call):
            raise _no_chords()
        head = _with_args(head, args)
        # The next call is the last of the list; what an outer chain still has to do comes before it.
        rest = [*(whole.get("chain") or ()), *(signature_to_wire(step) for step in reversed(fixed[1:]))]
        options_of_head = {**head.options, **({"chain": rest} if rest else {})}
        planned = Planned(head.task, head.args, dict(head.kwargs), options_of_head)
        return Plan((planned,), _lineage(fixed))

    def _plan_group(self, node: Group, args: tuple[Any, ...], options: dict[str, Any]) -> Plan:
        whole = {**node.options, **options}
        if whole.get("link"):
            raise UsageError(
                "link= cannot be given to a group as a whole; link a task of it, or follow it with a chord"
            )
        group_id = str(whole.get("task_id") or whole.get("group_id") or self._new_id())
        shared = {key: value for key, value in whole.items() if key not in _OF_THE_WHOLE}
        calls: list[Planned] = []
        refs: list[ResultRef] = []
        args = (*args, *node.args)
        for index, member in enumerate(_flat(node)):
            own = {**shared, "group_id": group_id, "group_index": index}
            if whole.get("link_error"):
                own["link_error"] = [*_listed(member.options.get("link_error")), *_listed(whole["link_error"])]
            planned = self.plan(structs.replace(member, kwargs={**node.kwargs, **member.kwargs}), args, own)
            calls.extend(planned.calls)
            refs.append(planned.result)
        return Plan(tuple(calls), ResultRef(group_id, None, tuple(refs)))

    def _steps(self, node: Chain) -> list[Node]:
        """The steps of a chain, chains inside it unrolled."""
        steps: list[Node] = []
        for step in node.tasks:
            if isinstance(step, Chain):
                inner = self._steps(step)
                steps.extend(_with_links(inner, step.options))
            elif isinstance(step, Group) and len(step.tasks) == 1 and isinstance(step.tasks[0], Call):
                steps.append(step.tasks[0])
            else:
                steps.append(step)
        for step in steps[:-1]:
            if not isinstance(step, Call):
                raise _no_chords()
        return steps

    def _fixed_step(self, step: Node, options: dict[str, Any]) -> Node:
        if isinstance(step, Call):
            return self._fixed(step, options)
        if not isinstance(step, Group):
            raise _no_chords()
        group_id = str(options.get("task_id") or step.options.get("task_id") or self._new_id())
        tasks = tuple(self._fixed(member, {}) if isinstance(member, Call) else member for member in _flat(step))
        return structs.replace(step, tasks=tasks, options={**step.options, **options, "task_id": group_id})

    def _fixed(self, call: Call, options: Mapping[str, Any]) -> Call:
        merged = merge_options(call.options, options)
        merged["task_id"] = str(merged.get("task_id") or self._new_id())
        return structs.replace(call, options=merged)


def merge_options(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a signature with those of a call over them; its group stays its own."""
    merged = {**own, **{key: value for key, value in given.items() if value is not None}}
    for key in ("group_id", "stamped_headers"):
        if own.get(key) is not None:
            merged[key] = own[key]
    return merged


def _with_args(call: Call, args: tuple[Any, ...]) -> Call:
    return call if call.immutable or not args else structs.replace(call, args=(*args, *call.args))


def _with_links(steps: list[Node], whole: Mapping[str, Any]) -> list[Node]:
    """Give a chain's callbacks to its last step, and its errbacks to every step."""
    links, errbacks = _listed(whole.get("link")), _listed(whole.get("link_error"))
    linked: list[Node] = []
    for position, step in enumerate(steps):
        options = dict(step.options)
        if links and position == len(steps) - 1:
            options["link"] = [*_listed(options.get("link")), *links]
        if errbacks:
            options["link_error"] = [*_listed(options.get("link_error")), *errbacks]
        linked.append(structs.replace(step, options=options))
    return linked


def _flat(group: Group) -> list[Node]:
    """The members of a group, groups inside it flattened."""
    members: list[Node] = []
    for member in group.tasks:
        if isinstance(member, Group) and not member.options:
            members.extend(_flat(member))
        elif isinstance(member, (Call, Chain)):
            members.append(member)
        else:
            raise _no_chords()
    return members


def _lineage(steps: Sequence[Node]) -> ResultRef:
    """The handle of the last step, with those before it as its parents."""
    ref: ResultRef | None = None
    for step in steps:
        children = None
        if isinstance(step, Group):
            children = tuple(ResultRef(str(member.options["task_id"])) for member in step.tasks)
        ref = ResultRef(str(step.options["task_id"]), ref, children)
    if ref is None:
        raise UsageError("a chain needs at least one task")
    return ref


def _listed(value: Any) -> list[Any]:
    if not value:
        return []
    return [value] if isinstance(value, Mapping) else list(value)


def _no_chords() -> UsageError:
    return UsageError("a chord (a task after a group) cannot be published by this version of opsq yet")
