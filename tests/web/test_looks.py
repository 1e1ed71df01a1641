"""Looks at workers and queues: what is asked, what is taken out of the answer, what is said when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest

from opsq.control.commands import COMMANDS
from opsq.web.access.door import NOBODY_NEEDED
from opsq.web.access.permissions import PERMISSIONS
from opsq.web.acting import buttons_for
from opsq.web.acts import ACTS
from opsq.web.app import create_app
from opsq.web.hands import Answers, CallAgain, Peeked, SetAside
from opsq.web.looking import ARGUMENTS, ask
from opsq.web.looks import LOOKS
from opsq.web.view_common import Places
from opsq.web.view_look import look_view, messages_view
from opsq.web.view_worker_control import INLINE, control
from tests.web.world import HOSTILE, World

CALL = {"id": "id-1", "name": HOSTILE, "args": ["hunter2"], "kwargs": {"password": "hunter2"}, "type": HOSTILE}
ANSWERS: Mapping[str, Any] = {
    "stack": [{"id": "id-1", "name": HOSTILE, "pid": 7, "stack": HOSTILE}, {"id": "id-2", "why": HOSTILE}, 3],
    "reserved": [{**CALL, "delivery_info": {"routing_key": HOSTILE, "priority": 3}}, "nonsense"],
    "scheduled": [{"eta": HOSTILE, "priority": 6, "request": CALL}, {"eta": None, "request": None}],
    "registered": [HOSTILE, f"{HOSTILE} [rate_limit=10/m]"],
    "active_queues": [{"name": HOSTILE, "exchange": {"name": HOSTILE}, "routing_key": HOSTILE, "max_priority": None}],
    "stats": {"broker": {"password": "hunter2"}, HOSTILE: HOSTILE, "deep": {"list": [1, [2, {"a": None}]]}},
    "overrides": [{"what": HOSTILE, "now": HOSTILE, "then": "", "until": None}],
    "conf": {"broker_url": "redis://:hunter2@h/0", "secret_key": "hunter2", HOSTILE: HOSTILE},
}
"""What a worker may say to each command, with things in it that must not come through."""


class Told:
    """Hands whose workers answer what they were told to."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers

    def order(self, command: str, arguments: Mapping[str, Any], nodes: Sequence[str], expected: int) -> Answers:
        """Answer for the one node that is asked, if anything is to be said."""
        return Answers({node: self.answers[command] for node in nodes if command in self.answers})

    def send(self, call: CallAgain) -> str:
        raise NotImplementedError

    def purge(self, queue: str) -> int:
        raise NotImplementedError

    def move(self, queue: str, to: str, most: int) -> int:
        raise NotImplementedError

    def peek(self, queue: str, most: int) -> tuple[Peeked, ...]:
        return ()

    def quarantined(self, most: int) -> tuple[SetAside, ...]:
        return ()

    def release(self, id: str) -> str:
        raise NotImplementedError

    def drop(self, id: str) -> None:
        raise NotImplementedError


def test_the_table_is_whole() -> None:
    known = {permission.name for permission in PERMISSIONS}
    assert len({look.verb for look in LOOKS}) == len(LOOKS)
    for look in LOOKS:
        assert look.permission in known
        assert look.doc.endswith(".")
        assert look.command in ANSWERS
        assert COMMANDS[look.command].role in ("viewer", "operator"), "a look changes nothing"


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.verb)
def test_nothing_private_comes_through_and_nothing_runs(world: World, look: Any) -> None:
    app = create_app(replace(world.deps(), hands=Told(ANSWERS)))

    async def both() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as session:
            page = await session.get(f"/look/{look.name}", params={"target": "opsq@img-1"})
            return page, await session.get(f"/api/v1/workers/opsq@img-1/{look.verb}")

    page, program = asyncio.run(both())
    assert (page.status_code, program.status_code) == (200, 200)
    assert "No answer" not in page.text
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;" in page.text, "it was shown, as text"
    for text in (page.text, program.text):
        assert "hunter2" not in text
    keys = set(msgspec.json.decode(program.content)) | _keys(msgspec.json.decode(program.content)["answer"])
    assert not keys & ARGUMENTS


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def test_no_answer_is_said_with_its_reason(world: World) -> None:
    stack = next(look for look in LOOKS if look.verb == "stack")
    registered = next(look for look in LOOKS if look.verb == "registered")
    silent = replace(world.deps(), hands=Told({}))
    assert ask(world.deps(), stack, "opsq@img-1").problem == "this monitor only watches"
    assert ask(silent, stack, "opsq@nobody").problem == "no worker of this name has been heard"
    assert "did not answer in time" in ask(silent, stack, "opsq@img-1").problem
    assert "Celery's workers do not know" in ask(silent, stack, "celery@legacy-1").problem
    refusing = replace(world.deps(), hands=Told({"registered": {"error": "unknown"}}))
    assert ask(refusing, registered, "celery@legacy-1").problem == "it refused: unknown"
    for wrong in (None, 3, "text", [None, 3], {"a": 1}):
        for look in LOOKS:
            shown = look_view(
                look,
                "opsq@img-1",
                ask(replace(world.deps(), hands=Told({look.command: wrong})), look, "opsq@img-1"),
                Places(),
            )
            assert shown.heading == look.label


def test_messages_say_their_priorities() -> None:
    waiting = [Peeked(id=str(n), task="shop.x", size_bytes=300, priority=n % 2 * 6) for n in range(5)]
    view = messages_view("mail", waiting, "", Places())
    assert view.note == "Of the first 5 messages 3 of priority 0, 2 of priority 6."
    assert not messages_view("mail", (), "the broker is away", Places()).rows


def test_every_act_on_a_worker_is_on_its_page(world: World) -> None:
    deps = replace(world.deps(), hands=Told({}))
    worker = next(each for each in world.query.workers() if each.name == "opsq@img-1")
    buttons = {button.label for button in buttons_for(deps, "worker", worker.name, NOBODY_NEEDED, besides=INLINE)}
    table = control(worker, (), NOBODY_NEEDED, Places())
    assert table is not None
    inline = {knob.action.rpartition("/")[2] for row in table.rows for knob in row.knobs}
    for act in ACTS:
        if act.of == "worker":
            assert act.name in inline or f"{act.label}…" in buttons, act.name
    assert inline == INLINE
