"""Which options belong where in a workflow: to its start, to its end, to every call. Pure.

Source: celery-features 5.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import structs

from opsq.core.call_options import AMQP_PROPERTIES, CALL_OPTIONS
from opsq.errors import UsageError
from opsq.wire.signature import Call, Chain, Chord, Group, parse_signature
from opsq.wire.signature import Signature as Node

#: They say what the end of a workflow is, and what it is part of.
TAIL: Final = ("task_id", "group_id", "group_index", "chord", "link")
#: They delay the start of a workflow.
_DELAYS: Final = frozenset({"countdown", "eta"})
_OF_CHORDS: Final = frozenset({"interval", "max_retries", "task_id", "chord_size"})


class Fitter:
    """Gives options to the nodes they belong to. header_errbacks: as of ``Planner``."""

    def __init__(self, header_errbacks: bool) -> None:
        self._header_errbacks = header_errbacks

    def give(self, node: Node, given: Mapping[str, Any]) -> Node:
        """``node`` with ``given`` over its own options, each where it belongs."""
        given = {key: value for key, value in given.items() if value is not None}
        if isinstance(node, Call):
            return structs.replace(node, options=joined_options(node.options, given))
        if isinstance(node, Group):
            return self._give_group(node, given)
        if isinstance(node, Chord):
            if given.get("task_id"):
                # Its own is the header's, as Celery has it; a new one is the id of what comes out.
                node = _body_given(self, node, {"task_id": given["task_id"]})
                given = {key: value for key, value in given.items() if key != "task_id"}
            return self.settle_chord(structs.replace(node, options=joined_options(node.options, given)))
        return self._settle_chain(structs.replace(node, options=joined_options(node.options, given)))

    def settle(self, node: Node) -> Node:
        """``node`` with its own options where they belong."""
        return self.give(node, {}) if not isinstance(node, Call) else node

    def settle_chord(self, node: Chord) -> Chord:
        """A chord whose options have gone to its header and body."""
        whole = {key: value for key, value in node.options.items() if key not in _OF_CHORDS}
        extra = node.kwargs.get("kwargs")
        if isinstance(extra, Mapping):
            whole = {**{key: value for key, value in extra.items() if key in CALL_OPTIONS}, **whole}
        kept = {key: value for key, value in node.options.items() if key in _OF_CHORDS}
        if not whole:
            return node if node.options == kept else structs.replace(node, options=kept)
        body = {key: value for key, value in whole.items() if key not in _DELAYS and key != "parent_id"}
        header = {key: value for key, value in whole.items() if key not in TAIL and key not in ("chain", "link_error")}
        if self._header_errbacks and whole.get("link_error"):
            header["link_error"] = whole["link_error"]
        group = node.header if isinstance(node.header, Group) else Group(tasks=node.header)
        node = structs.replace(node, header=self._give_group(group, header), options=kept)
        return _body_given(self, node, body)

    def _settle_chain(self, node: Chain) -> Node:
        whole = dict(node.options)
        rest = listed(whole.pop("chain", None))
        steps = list(node.tasks)
        if steps and whole:
            last = {key: whole.pop(key) for key in TAIL if whole.get(key) is not None}
            errbacks = listed(whole.pop("link_error", None))
            if errbacks:
                steps = [self.give(step, {"link_error": errbacks}) for step in steps]
            if last:
                last_step = steps[-1]
                if isinstance(last_step, Call) and last_step.options.get("task_id"):
                    last.pop("task_id", None)
                steps[-1] = self.give(last_step, last)
            if whole:
                steps[0] = self.give(steps[0], whole)
        options = {"chain": rest} if rest else {}
        return structs.replace(node, tasks=tuple(steps), options=options)

    def _give_group(self, node: Group, given: Mapping[str, Any]) -> Node:
        if given.get("link"):
            raise UsageError(
                "link= cannot be given to a group as a whole; link a task of it, or follow it with a chord"
            )
        rest = listed(given.get("chain"))
        whole = {**node.options, **given}
        whole["link_error"] = [*listed(node.options.get("link_error")), *listed(given.get("link_error"))] or None
        own = {key: whole[key] for key in ("task_id", "chord") if whole.get(key)}
        if "chord" in own and whole.get("group_id"):
            own["group_id"] = whole["group_id"]
        own.setdefault("task_id", given.get("group_id")) if given.get("group_id") else None
        shared = {
            key: value for key, value in whole.items() if key not in TAIL and key != "chain" and value is not None
        }
        members = node.tasks
        if shared:
            members = tuple(self.give(member, shared) for member in members)
        group = structs.replace(node, tasks=members, options=own)
        if not rest:
            return group
        following = followed_by(group, parse_signature(rest[-1]))
        return self.give(following, {"chain": rest[:-1]}) if rest[:-1] else following


def _body_given(fitter: Fitter, node: Chord, options: Mapping[str, Any]) -> Chord:
    if node.body is None:
        return node
    body, link = node.body, listed(options.get("link"))
    if link and isinstance(body, Group) and body.tasks:
        first = fitter.give(body.tasks[0], {"link": link})
        body = structs.replace(body, tasks=(first, *body.tasks[1:]))
        options = {key: value for key, value in options.items() if key != "link"}
    return structs.replace(node, body=fitter.give(body, options))


def merge_options(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a signature with those of a call over them; its group stays its own."""
    merged = {**own, **{key: value for key, value in given.items() if value is not None}}
    for key in ("group_id", "stamped_headers"):
        if own.get(key) is not None:
            merged[key] = own[key]
    return merged


def joined_options(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """As ``merge_options``, but callbacks are added to those that are there."""
    merged = merge_options(own, given)
    for key in ("link", "link_error"):
        both = listed(own.get(key))
        both.extend(each for each in listed(given.get(key)) if each not in both)
        if both:
            merged[key] = both
    if own.get("chain") and given.get("chain"):
        # The next is the last of the list: what belongs to the call itself comes first.
        merged["chain"] = [*given["chain"], *own["chain"]]
    return merged


def with_tail_options(node: Node, options: Mapping[str, Any], keep: bool = False) -> Node:
    """``node`` with these options at its end, over what is there; keep: only where nothing is."""
    if isinstance(node, Call):
        merged = {**options, **node.options} if keep else {**node.options, **options}
        return structs.replace(node, options=merged)
    if isinstance(node, Chain) and node.tasks:
        last = with_tail_options(node.tasks[-1], options, keep)
        return structs.replace(node, tasks=(*node.tasks[:-1], last))
    if isinstance(node, Chord) and node.body is not None:
        return structs.replace(node, body=with_tail_options(node.body, options, keep))
    # A group at the end of a member counts for nobody: it is a whole of its own.
    return node


def followed_by(node: Node, following: Node, unfix: bool = False) -> Node:
    """``node`` with ``following`` after the group it ends in.

    unfix: that group belongs to nobody any more, whatever its members say.
    """
    if isinstance(node, Group):
        group = _unfixed(node) if unfix else node
        return Chord(header=group, body=following)
    if isinstance(node, Chord) and node.body is not None:
        return structs.replace(node, body=followed_by(node.body, following, unfix))
    if isinstance(node, Chain) and node.tasks:
        last = followed_by(node.tasks[-1], following, unfix)
        return structs.replace(node, tasks=(*node.tasks[:-1], last))
    return Chain(tasks=(node, following))


def _unfixed(group: Group) -> Group:
    """A group without its id: Celery gives a group inside a header the header's own."""
    options = {key: value for key, value in group.options.items() if key not in ("task_id", "group_id", "chord")}
    return structs.replace(group, options=options)


def flat_members(group: Group, fitter: Fitter) -> list[Node]:
    """The members of a group, groups inside it flattened, options of the whole given to each."""
    members: list[Node] = []
    for task in group.tasks:
        member = fitter.settle(task)
        while isinstance(member, Chain) and len(member.tasks) == 1 and not member.options and not member.args:
            member = fitter.settle(member.tasks[0])
        if isinstance(member, Group):
            inner = flat_members(member, fitter)
            members.extend(_with_args(each, member) for each in inner)
        else:
            members.append(member)
    return members


def _with_args(member: Node, group: Group) -> Node:
    if group.immutable or member.immutable or not (group.args or group.kwargs):
        return member
    return structs.replace(member, args=(*group.args, *member.args), kwargs={**group.kwargs, **member.kwargs})


def known_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a call knows; a signature of another library's version may hold more."""
    stamps = frozenset(options.get("stamped_headers") or ())
    return {
        key: value for key, value in options.items() if key in CALL_OPTIONS or key in AMQP_PROPERTIES or key in stamps
    }


def listed(value: Any) -> list[Any]:
    """None, one thing, or several, as a list."""
    if not value:
        return []
    if isinstance(value, (Mapping, str, bytes)) or not isinstance(value, Iterable):
        return [value]
    return list(value)
