"""Acts over a real broker: what is possible, what it does, what the audit says. By clicking: ``test_acts_clicked``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opsq.cli.hands import FleetHands
from opsq.events.records import TaskDetail, TaskItem
from opsq.settings import Settings
from opsq.web.access.door import NOBODY_NEEDED
from opsq.web.access.permissions import PERMISSIONS
from opsq.web.act_fields import WrongField, read_fields
from opsq.web.acting import By, buttons_for, perform
from opsq.web.acts import ACTS, BY_NAME
from opsq.web.app import create_app
from opsq.web.deps import Deps
from opsq.web.hands import CallAgain, whole_call
from tests.web.conftest import client_of
from tests.web.night_hands import NightHands
from tests.web.test_access import SAME
from tests.web.world import World

ME = By(NOBODY_NEEDED, "127.0.0.1")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings().replace(data_dir=str(tmp_path / "data"), web_port=0)


@pytest.fixture
def deps(world: World, settings: Settings) -> Iterator[Deps]:
    """A monitor that can act on a broker that nobody serves."""
    hands = FleetHands(settings)
    yield replace(world.deps(), hands=hands)
    hands.close()


def newest(deps: Deps) -> Any:
    assert deps.trail is not None
    return deps.trail.page(limit=1)[0].entry


def test_the_table_is_whole() -> None:
    assert len({act.name for act in ACTS}) == len({act.path for act in ACTS}) == len(ACTS)
    known = {permission.name for permission in PERMISSIONS}
    for act in ACTS:
        assert act.permission in known
        assert act.doc.endswith(".")
        assert act.typed <= act.danger, f"{act.name} cannot be undone and does not look like it"


@pytest.mark.parametrize("verb", ["mute", "unmute"])
def test_an_error_that_nobody_failed_with_cannot_be_muted(world: World, verb: str) -> None:
    get = client_of(create_app(replace(world.deps(), hands=NightHands(world.clock))))
    said = "No such error is known here"
    page = get(f"/act/error-{verb}?target=nothing")
    assert (page.status_code, said in page.text) == (404, True)
    assert get(f"/act/error-{verb}", "POST", headers=SAME, data={"target": "nothing"}).status_code == 404
    told = get(f"/api/v1/errors/nothing/{verb}", "POST", headers=SAME, json={})
    assert (told.status_code, told.json()["error"]["message"]) == (404, said)


def test_queue_acts_do_it_and_are_written_down(deps: Deps) -> None:
    assert deps.hands is not None
    for number in range(3):
        deps.hands.send(CallAgain(name="shop.x", args=(number,), kwargs={}, queue="acts-a"))
    moved = perform(deps, BY_NAME["queue-move"], "acts-a", {"to": "acts-b", "most": "2"}, ME)
    assert (moved.outcome, moved.after) == ("done", {"moved": 2})
    assert [message.args for message in deps.hands.peek("acts-b", 5)] == ["(0,)", "(1,)"]
    with pytest.raises(WrongField, match="cannot be undone"):
        perform(deps, BY_NAME["queue-purge"], "acts-b", {"confirm": "acts-"}, ME)
    purged = perform(deps, BY_NAME["queue-purge"], "acts-b", {"confirm": "acts-b"}, ME)
    assert purged.after == {"deleted": 2}
    entry = newest(deps)
    assert (entry.act, entry.target, entry.outcome, entry.who, entry.source) == (
        "queue-purge", "acts-b", "done", "local", "127.0.0.1",
    )  # fmt: skip
    assert entry.hash == purged.audit


def test_pausing_is_kept_by_the_broker_when_nobody_is_there(deps: Deps) -> None:
    did = perform(deps, BY_NAME["queue-pause"], "acts-c", {"for_s": "5m"}, ME)
    assert (did.outcome, did.after["kept_by_broker"]) == ("done", True)
    assert newest(deps).values == {"for_s": 300.0}


def test_what_is_not_possible_is_refused_with_its_reason_and_written_down(deps: Deps, world: World) -> None:
    done = next(item for item in world.query.tasks(limit=200).items if item.state == "SUCCESS")
    did = perform(deps, BY_NAME["task-revoke"], done.id, {}, ME)
    assert (did.outcome, did.message) == ("refused", "it has ended: ok")
    assert newest(deps).before["state"] == "SUCCESS"
    again = perform(deps, BY_NAME["task-retry"], done.id, {}, ME)
    assert "only their text" in again.message
    nobody = perform(deps, BY_NAME["worker-grow"], "opsq@nobody", {}, ME)
    assert nobody.message == "no worker of this name has been heard"
    reasons = {button.label: button.why_not for button in buttons_for(deps, "task", done.id, NOBODY_NEEDED)}
    assert reasons["Revoke…"] == "it has ended: ok"


def test_a_worker_that_does_not_answer_is_a_failure_not_a_success(deps: Deps, world: World) -> None:
    did = perform(deps, BY_NAME["worker-grow"], "opsq@img-1", {"n": 1}, ME)
    assert did.outcome == "failed"
    assert "no worker answered" in did.message


def test_a_monitor_that_only_watches_says_so(world: World) -> None:
    did = perform(world.deps(), BY_NAME["queue-pause"], "mail", {}, ME)
    assert (did.outcome, did.message) == ("refused", "this monitor only watches")


def detail(payload: str | None, complete: bool | None) -> TaskDetail:
    item = TaskItem(key=1, id="t1", state="FAILURE", type="shop.x", queue="mail")
    return TaskDetail(item=item, tries=(), payload=payload, complete=complete)


def test_only_a_whole_payload_makes_a_call() -> None:
    call = whole_call(detail('{"args":[1],"kwargs":{"a":2}}', True))
    assert isinstance(call, CallAgain)
    assert (call.args, call.kwargs, call.queue, call.of) == ((1,), {"a": 2}, "mail", "t1")
    assert "not whole" in str(whole_call(detail('{"args":["[redacted]"],"kwargs":{}}', False)))
    assert "not whole" in str(whole_call(detail('{"args":[1],"kwargs":{}}', None)))
    assert "only their text" in str(whole_call(detail(None, None)))
    assert "cannot be read" in str(whole_call(detail("{", True)))


@pytest.mark.parametrize(
    ("act", "given", "says"),
    [
        ("worker-grow", {"n": "many"}, "n: expected a number"),
        ("worker-grow", {"n": "0"}, "n: expected at least 1"),
        ("worker-grow", {"n": "1e999"}, "n: expected at least 1"),
        ("worker-grow", {"n": "1.5"}, "n: expected a whole number"),
        ("worker-grow", {"n": True}, "n: expected a number"),
        ("worker-grow", {"m": "1"}, "m: is not asked for here"),
        ("worker-add-queue", {}, "queue: is needed"),
        ("worker-add-queue", {"queue": "a\nb"}, "queue: expected text that can be printed"),
        ("worker-log-level", {"level": "LOUD"}, "level: expected one of DEBUG"),
        ("queue-pause", {"for_s": "soon"}, "for_s: expected a time such as"),
        ("task-resend", {"args": "{}"}, "args: expected a JSON list"),
        ("task-resend", {"kwargs": "{"}, "kwargs: cannot be read as JSON"),
    ],
)
def test_fields_say_what_is_wrong(act: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongField, match=says):
        read_fields(BY_NAME[act].fields, given)
