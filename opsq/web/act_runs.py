"""How the acts of the table are done, and when they are not possible. Through ``Hands``; nothing else is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opsq.web.act_records import DONE, FAILED, FINAL, Done, Run, Seen
from opsq.web.faces import task_face
from opsq.web.hands import Hands, whole_call

_CANNOT_STOP: Final = frozenset({"threads", "solo", "gevent", "eventlet"})


def _order(
    hands: Hands, seen: Seen, name: str, arguments: Mapping[str, Any], *, standing: bool = False, silent: bool = False
) -> Done:
    """Give an order to the worker that is the target, else to all, and judge their answers."""
    nodes = (seen.target,) if seen.worker is not None else ()
    given = {key: value for key, value in arguments.items() if value is not None}
    told = hands.order(name, given, nodes, seen.workers_up)
    said = {node: _said(answer) for node, answer in told.by_node.items()}
    wrong = {node: text for node, (good, text) in said.items() if not good}
    after = {"answers": {node: text for node, (_, text) in said.items()}, "kept_by_broker": told.kept}
    if silent:
        return Done(DONE, "the order was sent; this one is not answered", after)
    if wrong:
        first, text = next(iter(wrong.items()))
        others = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return Done(FAILED, f"{len(wrong)} of {len(said)} workers refused: {first}: {text}{others}", after)
    if said:
        who = "1 worker" if len(said) == 1 else f"{len(said)} workers"
        return Done(DONE, f"{who} did it: {next(iter(said.values()))[1]}", after)
    if standing and told.kept:
        return Done(DONE, "no worker answered; the broker keeps the order for those that come", after)
    return Done(FAILED, "no worker answered in time; it is not known whether any did it", after)


def _said(answer: Any) -> tuple[bool, str]:
    """Whether an answer is good, and its words, cut."""
    if isinstance(answer, Mapping):
        if "error" in answer:
            return False, str(answer["error"])[:300]
        return True, str(answer.get("ok", answer))[:300]
    return True, str(answer)[:300]


def command(name: str, target_as: str = "", *, standing: bool = False, silent: bool = False) -> Run:
    """Make an act that is one remote command. target_as: the argument that names the target, where it is no worker."""

    def run(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
        arguments = {**values, **({target_as: seen.target} if target_as else {})}
        return _order(hands, seen, name, arguments, standing=standing, silent=silent)

    return run


def revoke(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
    """Revoke a task."""
    return _order(hands, seen, "revoke", {"task_id": [seen.target], "terminate": False}, standing=True)


def terminate(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
    """Stop a running task."""
    arguments = {"task_id": [seen.target], "terminate": True, "signal": values["signal"]}
    return _order(hands, seen, "revoke", arguments, standing=True)


def retry(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
    """Send the same call again."""
    call = whole_call(seen.task) if seen.task is not None else "the task is not known"
    if isinstance(call, str):
        return Done(FAILED, call, {})
    id = hands.send(call)
    return Done(DONE, f"sent again as {id}", {"new_id": id, "queue": call.queue})


def resend(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
    """Send the call again, changed."""
    call = whole_call(seen.task) if seen.task is not None else "the task is not known"
    if isinstance(call, str):
        return Done(FAILED, call, {})
    changed = type(call)(
        name=call.name, of=call.of, root_id=call.root_id,
        args=call.args if values["args"] is None else tuple(values["args"]),
        kwargs=call.kwargs if values["kwargs"] is None else values["kwargs"],
        queue=values["queue"] or call.queue, countdown_s=values["countdown_s"],
    )  # fmt: skip
    id = hands.send(changed)
    edited = (changed.args, changed.kwargs) != (call.args, call.kwargs)
    return Done(DONE, f"sent as {id}", {"new_id": id, "queue": changed.queue, "arguments_changed": edited})


def may_revoke(seen: Seen) -> str:
    """Why a task cannot be revoked."""
    state = seen.task.item.state if seen.task is not None else "PENDING"
    if state in FINAL:
        return f"it has ended: {task_face(state).word}"
    return "it runs already; only stopping it helps: terminate" if state == "STARTED" else ""


def may_terminate(seen: Seen) -> str:
    """Why a task cannot be stopped."""
    if seen.task is None or seen.task.item.state != "STARTED":
        state = seen.task.item.state if seen.task is not None else "not known"
        said = task_face(state).word
        return f"it has ended: {said}" if state in FINAL else f"it does not run: {said}"
    pool = next((one.pool for one in reversed(seen.task.tries) if one.pool), None)
    return f"the {pool} pool of {seen.task.item.worker} cannot stop a running task" if pool in _CANNOT_STOP else ""


def may_send_again(seen: Seen) -> str:
    """Why a call cannot be made again."""
    if seen.task is None:
        return "the task is not known"
    call = whole_call(seen.task)
    return call if isinstance(call, str) else ""


def may_retry(seen: Seen) -> str:
    """Why a task cannot be retried."""
    if seen.task is not None and seen.task.item.state not in FINAL:
        return f"it has not ended: {task_face(seen.task.item.state).word}"
    return may_send_again(seen)


def purge(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
    """Delete what waits in a queue."""
    count = hands.purge(seen.target)
    return Done(DONE, f"{count} waiting {'message' if count == 1 else 'messages'} deleted", {"deleted": count})


def move(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
    """Move what waits in a queue."""
    count = hands.move(seen.target, values["to"], values["most"])
    return Done(DONE, f"{count} {'message' if count == 1 else 'messages'} moved to {values['to']}", {"moved": count})


def release(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
    """Put a message that was set aside back."""
    queue = hands.release(seen.target)
    return Done(DONE, f"back on {queue}, its deaths forgotten", {"queue": queue})


def drop(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
    """Delete a message that was set aside."""
    hands.drop(seen.target)
    return Done(DONE, "deleted", {})


def schedule(command: str) -> Run:
    """Make an act that the leading beat carries out on the entry that is the target."""

    def run(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
        given = {name: value for name, value in values.items() if value not in (None, "")}
        return Done(DONE, hands.schedule(command, {"name": seen.target, **given}), {})

    return run


def known_entry(seen: Seen) -> str:
    """Why nothing can be done to an entry of the schedule."""
    return "" if seen.entry is not None else "the schedule has no such entry"


def may_pause_entry(seen: Seen) -> str:
    """Why an entry cannot be paused."""
    return "it is paused already" if seen.entry is not None and seen.entry.paused else known_entry(seen)


def may_resume_entry(seen: Seen) -> str:
    """Why an entry cannot be resumed."""
    return "it is not paused" if seen.entry is not None and not seen.entry.paused else known_entry(seen)


def may_remove_entry(seen: Seen) -> str:
    """Why an entry cannot be removed."""
    if seen.entry is not None and seen.entry.source == "code":
        return "it comes from the code; pause it, or take it out there"
    return known_entry(seen)


def noted(message: str) -> Run:
    """Make an act whose entry in the audit is all it does."""

    def run(hands: Hands, seen: Seen, values: Mapping[str, Any]) -> Done:
        return Done(DONE, message, {})

    return run


def may_mute(seen: Seen) -> str:
    """Why an error cannot be muted."""
    return "it is muted already" if seen.muted else ""


def may_unmute(seen: Seen) -> str:
    """Why an error cannot be unmuted."""
    return "" if seen.muted else "it is not muted"


def up(seen: Seen) -> str:
    """Why a worker cannot be told anything."""
    if seen.worker is not None and seen.worker.status in ("lost", "offline"):
        return f"it is {seen.worker.status}, so nobody would hear the order"
    return ""


def up_and_opsq(seen: Seen) -> str:
    """Why a worker cannot be told what only ours know."""
    if seen.worker is not None and seen.worker.software and "celery" in seen.worker.software:
        return "Celery's workers do not know this command"
    return up(seen)
