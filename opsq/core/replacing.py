"""Let another call or workflow do a running task's work, under its id; and add a member to its chord.

Source: celery-protocol A.6 "Replace", celery-features 5.2.
"""

from __future__ import annotations

from typing import Any

from opsq.core.canvas import ACCUMULATE, tail_of
from opsq.core.canvas_options import followed_by
from opsq.core.chord_store import ChordStore, counts
from opsq.core.request import Context
from opsq.core.signature import Signature, copied, maybe_signature, signature
from opsq.errors import Ignore, UsageError
from opsq.wire.signature import Call, Chain, Group, parse_signature, signature_to_wire


def replace(app: Any, request: Context, sig: Any) -> Any:
    """Publish ``sig`` in the place of the running call; always raises Ignore, but for an eager run.

    Returns: of an eager run, the value of ``sig``. Raises: UsageError for what cannot take its place.
    """
    if request.called_directly:
        raise UsageError("replace() works inside a running task only; outside, call the signature itself")
    sig = maybe_signature(sig, app)
    if sig.options.get("chord"):
        raise UsageError("a signature that belongs to a chord of its own cannot replace a task")
    node = parse_signature(copied(dict(sig)))
    if isinstance(node, Chain) and not node.tasks:
        raise UsageError("an empty chain cannot replace a task: it has no result")
    if isinstance(tail_of(node), Group):
        # One call must have the replaced task's id, so the group's results are gathered in one.
        node = followed_by(node, Call(task=ACCUMULATE, kwargs={"index": 0}))
    replacement: Signature = signature(signature_to_wire(node), app=app)
    if request.is_eager:
        return replacement.apply().get()
    options: dict[str, Any] = {
        "task_id": request.id,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "group_id": request.group,
        "group_index": request.group_index,
        "chord": request.chord,
        "chain": request.chain,
        "replaced_task_nesting": request.replaced_task_nesting + 1,
        "add_to_parent": False,
    }
    own = replacement.options
    simple = isinstance(node, Call)
    for key, inherited in (("link", request.callbacks), ("link_error", request.errbacks)):
        both = [*(_listed(own.get(key)) if simple else ()), *(inherited or ())]
        options[key] = both or None
    if request.stamped_headers and not own.get("stamped_headers"):
        options.update(stamped_headers=request.stamped_headers, **dict(request.stamps or {}))
    replacement.apply_async(**{key: value for key, value in options.items() if value is not None})
    raise Ignore(f"replaced by {sig.task}")


def add_to_chord(app: Any, request: Context, sig: Any, lazy: bool) -> Any:
    """Make ``sig`` one more member of the chord that the running task is a header member of.

    lazy: do not publish it. Returns: its handle, or with ``lazy`` the signature.
    Raises: UsageError outside a chord, or with a store that cannot count.
    """
    if not request.group or not request.chord:
        raise UsageError("add_to_chord() works in a task of a chord's header only")
    if not counts(app.backend):
        raise UsageError("add_to_chord() needs a result store that counts chords, such as Redis or SQLite")
    member = maybe_signature(sig, app).clone()
    member.freeze(group_id=request.group, chord=request.chord, root_id=request.root_id)
    ChordStore(app.backend, app.settings).grow(request.group, 1)
    return member if lazy else member.apply_async()


def _listed(value: Any) -> list[Any]:
    return [] if not value else [value] if isinstance(value, dict) else list(value)
