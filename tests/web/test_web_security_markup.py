"""A corpus of markup in every field that somebody else fills in makes no element, attribute or address on any page.

The pages are parsed as a browser would: what counts is not the text but what it became.
"""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest

from opsq.web.access.door import NOBODY_NEEDED
from opsq.web.assets import Assets
from opsq.web.live import Session
from opsq.web.moments import Moments
from opsq.web.pages import PAGES
from opsq.web.render import Renderer
from opsq.web.routes import ROUTES
from opsq.web.view_common import Ask
from tests.web.conftest import client
from tests.web.world import World

CORPUS = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onmouseover='alert(1)", "javascript:alert(1)",
    "</script><script>alert(1)</script>", "</textarea><svg/onload=alert(1)>", "</title><script>alert(1)</script>",
    "<hx-partial hx-target=\"body\" hx-swap=\"innerHTML\">x</hx-partial>", "\" hx-get=\"//evil.example\" x=\"",
    "{{7*7}}{% raw %}", "--><script>alert(1)</script><!--", "]]><x/>", "\u2028</style><style>*{display:none}</style>",
    "&lt;script&gt;alert(1)&lt;/script&gt;", "<a href=\"data:text/html,x\">x</a>", "\x00<\x00script>", "\u202egnp.exe",
    "data:text/html,<script>alert(1)</script>", "<base href=//evil.example>", "<meta http-equiv=refresh content=0>",
)  # fmt: skip
#: Elements that no page has.
NEVER = frozenset({"img", "iframe", "object", "embed", "base", "style", "hx-partial", "x"})
ADDRESSES = ("href", "src", "action", "formaction", "hx-get", "hx-post", "hx-sse:connect", "xlink:href", "poster")


class Reader(HTMLParser):
    """Reads a page and keeps what must not be there."""

    def __init__(self, live: bool = False) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self._live = live

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        given = {name: value or "" for name, value in attrs}
        if tag in NEVER and not (tag == "hx-partial" and self._live and re.fullmatch(r"#[\w-]+", given["hx-target"])):
            self.wrong.append(f"<{tag}>")
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.wrong.append("<script> without a file")
        if tag == "meta" and given.get("http-equiv", "").lower() == "refresh" and given.get("content") != "10":
            self.wrong.append("<meta refresh>")
        for name, value in given.items():
            if name.startswith("on") or name == "style":
                self.wrong.append(f"{tag} {name}={value[:40]}")
            if name in ADDRESSES and re.match(r"\s*(javascript|data|vbscript|//|https?:)", value, re.IGNORECASE):
                self.wrong.append(f"{tag} {name}={value[:40]}")


def wrong_in(text: str, *, live: bool = False) -> list[str]:
    """What must not be in a page or a fragment."""
    reader = Reader(live)
    reader.feed(text)
    reader.close()
    return reader.wrong


def hostile() -> World:
    """A world in which somebody wrote markup wherever there is room for text."""
    world = World()
    world.step(1.0)
    for n, bad in enumerate(CORPUS):
        at, id, host = world.clock.now(), f"{n:04x}{bad}", f"h{n}{bad}"
        call: dict[str, Any] = {
            "name": bad, "queue": bad, "args": bad, "kwargs": bad, "root_id": f"root{bad}", "parent_id": f"up{bad}",
            "eta": bad, "expires": bad, "exchange": bad, "routing_key": bad, "retries": 0, "attempt": 1, "version": bad,
            "payload": f'{{"args": [{json_of(bad)}], "kwargs": {{{json_of(bad)}: 1}}}}', "complete": True,
        }  # fmt: skip
        world.tell("worker-online", host, at, freq=2.0, active=1, processed=1, pool=bad, queues=[bad], sw_ident=bad,
                   sw_ver=bad, sw_sys=bad, paused=[f"queue {bad}"], version=bad, slots=2, busy=1)  # fmt: skip
        world.tell("worker-command", host, at, command=bad, arguments=bad, answer=bad, freq=2.0)
        world.tell("task-sent", f"web{bad}", at, id, **call)
        world.tell("task-received", host, at, id, **call)
        world.tell("task-started", host, at, id, **call, started_at=at, pool=bad)
        world.tell("task-progress", host, at, id, current=1, total=2, message=bad)
        world.tell("task-log", host, at, id, attempt=1, first=1, lines=[[at, bad, bad, bad]])
        error = {"exception": bad, "traceback": f"Traceback\n  File \"{bad}\", line 1, in {bad}\n    {bad}\n{bad}",
                 "fingerprint": bad}  # fmt: skip
        world.tell("task-retried" if n % 2 else "task-failed", host, at + 0.2, id, **call, **error)
        world.tell("task-sent", f"web{bad}", at, f"ok{id}", **call)
        world.tell("task-succeeded", host, at + 0.2, f"ok{id}", **call, result=bad, runtime=0.1)
        world.tell("schedule-tick", f"beat{bad}", at, name=bad, task=bad, id=id, late_s=0.1)
        world.tell(f"task-{bad}", host, at, id, **call)
        world.step(1.0)
        world.depth(bad, 5, 1.0)
    return world


def json_of(text: str) -> str:
    """The text as JSON."""
    return '"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"'


@pytest.fixture(scope="module")
def world() -> World:
    return hostile()


def names_of(world: World) -> dict[str, list[str]]:
    """Everything there is to look at, by the first part of its address."""
    tasks = [item.id for item in world.query.tasks(limit=1000).items]
    return {
        "tasks": tasks[::2], "why": tasks[::9], "workers": [each.name for each in world.query.workers()],
        "queues": [each.name for each in world.query.queues()], "errors": [g.fault for g in world.views.errors()],
        "types": [each.name for each in world.query.task_types()],
        "workflows": [flow.root for flow in world.views.workflows()],
    }  # fmt: skip


def test_no_page_makes_anything_of_it(world: World) -> None:
    ask, names = client(world), names_of(world)
    assert len(names["tasks"]) >= len(CORPUS)
    looked = 0
    for route in ROUTES:
        if route.method != "GET" or route.kind != "page" or route.path.startswith("/look/"):
            continue
        part = route.path.strip("/").partition("/")[0]
        paths = [route.path.replace("{verb}", "retry")]
        if "{id:path}" in route.path:
            paths = [route.path.replace("{id:path}", quote(id, safe="")) for id in names.get(part, CORPUS[::4])]
        for path in paths:
            answer = ask(path)
            assert answer.status_code < 500, path
            assert not wrong_in(answer.text), path
            looked += 1
    assert looked > 100


@pytest.mark.parametrize("bad", CORPUS)
def test_nor_of_what_is_asked_for(world: World, bad: str) -> None:
    ask = client(world)
    for path in ("/tasks", "/", "/types", "/act/task-revoke", "/bulk/retry", "/sign-in", "/act-outcome"):
        answer = ask(path, params=dict.fromkeys(("q", "target", "range", "next", "before", "sort", "id"), bad))
        assert answer.status_code < 500, path
        assert not wrong_in(answer.text), path
        assert "evil.example" not in answer.headers.get("location", "")
    assert not wrong_in(ask(f"/tasks/{quote(bad, safe='')}").text)
    assert not wrong_in(ask("/tasks", headers={"cookie": f"theme={quote(bad)}; density={quote(bad)}"}).text)


def test_no_live_message_makes_anything_of_it(world: World) -> None:
    deps, names = world.deps(), names_of(world)
    moments = Moments(deps, Renderer(Assets.load(), deps.places))
    of = {"task": "tasks", "worker": "workers", "queue": "queues", "error": "errors", "type": "types", "why": "tasks",
          "workflow": "workflows"}  # fmt: skip
    for page in PAGES:
        if page.keyed and page.name not in of:
            continue
        for id in names[of[page.name]][::7] if page.keyed else [""]:
            said = Session(page, deps, moments, replace(Ask(page.name, NOBODY_NEEDED), id=id)).messages()
            html = "\n".join(line.removeprefix("data: ") for line in said.split("\n") if line.startswith("data: "))
            assert not wrong_in(html, live=True), (page.name, id)


def test_the_reader_sees_what_it_is_for() -> None:
    for bad in CORPUS[:3] + CORPUS[5:7]:
        assert wrong_in(f"<p title='{bad}'>{bad}</p>"), bad
