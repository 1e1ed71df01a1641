"""The table of remote commands: complete, documented, and read strictly."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from opsq.control.arguments import checked, from_words, seconds
from opsq.control.client import Control, Inspect
from opsq.control.commands import BY_ANY_NAME, COMMANDS, ROLES, Command
from opsq.core.worker.handlers import HANDLERS
from opsq.errors import UsageError

PAGE = Path(__file__).parents[3] / "docs" / "control.md"


def test_each_command_has_a_handler_and_each_handler_a_command() -> None:
    assert HANDLERS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_a_handler_takes_the_arguments_of_the_table(command: Command) -> None:
    parameters = inspect.signature(HANDLERS[command.name]).parameters
    named = [name for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD][1:]
    assert sorted(named) == sorted(argument.name for argument in command.arguments)
    assert command.effect in ("read", "write")
    assert command.role in ROLES
    assert command.shape in ("ok", "table", "names", "facts", "text", "null", "none")
    assert (command.shape == "table") == bool(command.columns)
    assert command.doc.endswith(".")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_the_client_has_a_method_of_each_name(command: Command) -> None:
    owner: Any = Inspect if command.effect == "read" else Control
    assert callable(getattr(owner, command.name))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_each_command_is_on_the_page(command: Command) -> None:
    assert f"`{command.name}`" in PAGE.read_text()


def test_celerys_older_names_are_known() -> None:
    older = {"dump_conf", "dump_active", "dump_reserved", "dump_schedule", "dump_revoked", "dump_tasks"}
    assert older <= BY_ANY_NAME.keys()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ping", {"x": 1}, "ping() got an unexpected keyword argument 'x'"),
        ("rate_limit", {"task_name": "a"}, "rate_limit() missing required argument: 'rate_limit'"),
        ("pool_grow", {"n": "two"}, "pool_grow() argument 'n': expected integer, got 'two'"),
        ("pool_grow", {"n": True}, "pool_grow() argument 'n': expected integer, got True"),
        ("revoke", {"task_id": [1]}, "revoke() argument 'task_id': expected text or list of texts, got [1]"),
        ("revoke", {"task_id": "a", "terminate": "yes"}, "revoke() argument 'terminate': expected flag, got 'yes'"),
    ],
)
def test_wrong_arguments_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        checked(COMMANDS[name], given)
    assert str(caught.value) == message


def test_defaults_are_filled_in_and_an_open_command_passes_the_rest_on() -> None:
    found = checked(COMMANDS["revoke"], {"task_id": "a"})
    assert found == {"task_id": "a", "terminate": False, "signal": None, "for_s": None}
    assert checked(COMMANDS["revoke"], {"task_id": "a", "terminate": 1})["terminate"] is True
    found = checked(COMMANDS["add_consumer"], {"queue": "q", "max_priority": 9})
    assert found == {"queue": "q", "exchange": None, "exchange_type": "direct", "routing_key": None, "max_priority": 9}


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("rate_limit shop.mail 10/m", {"task_name": "shop.mail", "rate_limit": "10/m"}),
        ("time_limit shop.mail 2 3.5", {"task_name": "shop.mail", "soft": 2.0, "hard": 3.5}),
        ("time_limit shop.mail hard=3", {"task_name": "shop.mail", "hard": 3.0}),
        ("revoke a b terminate=true signal=KILL", {"task_id": ["a", "b"], "terminate": True, "signal": "KILL"}),
        ("terminate KILL a b", {"signal": "KILL", "task_id": ["a", "b"]}),
        ("pool_grow", {}),
        ("pool_grow 3", {"n": 3}),
        ("add_consumer q routing_key=k", {"queue": "q", "routing_key": "k"}),
        ("revoke_by_stamped_headers a=1 b=2 terminate=yes", {"headers": ["a=1", "b=2"], "terminate": True}),
        ("query_task a b", {"ids": ["a", "b"]}),
        ("pause queue=mail,video task=a for_s=2h", {"queue": ["mail", "video"], "task": ["a"], "for_s": 7200.0}),
        ("rate_limit shop.mail 10/m for_s=1h30m", {"task_name": "shop.mail", "rate_limit": "10/m", "for_s": 5400.0}),
    ],
)
def test_a_command_line_is_read(line: str, arguments: dict[str, Any]) -> None:
    name, *words = line.split()
    assert from_words(COMMANDS[name], words) == arguments
    checked(COMMANDS[name], arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rate_limit shop.mail", "needs rate_limit; write: rate_limit <task_name> <rate_limit>"),
        ("pool_grow two", "n: expected integer, got 'two'"),
        ("ping now", "did not expect 'now'; write: ping"),
        ("pool_grow for_s=soon", "for_s: expected a time such as 90s, 5m, 2h, got 'soon'"),
        ("pool_grow for_s=0", "for_s: expected a time such as 90s, 5m, 2h, got '0'"),
        ("revoke a terminate=maybe", "terminate: expected true or false, got 'maybe'"),
    ],
)
def test_a_wrong_command_line_says_what_is_right(line: str, message: str) -> None:
    name, *words = line.split()
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        from_words(COMMANDS[name], words)


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90.0), ("1.5h", 5400.0), ("250ms", 0.25), ("1d 2h", 93_600.0), ("2w", 1_209_600.0)]
)
def test_lengths_of_time(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "h", "1h30", "1x", "-5", "0", "nan", "inf"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="^" + text):
        seconds(text)


def test_who_may_stop_a_worker() -> None:
    assert {each.name for each in COMMANDS.values() if each.role == "admin"} == {
        *("shutdown", "pool_restart", "autoscale", "election"),
    }
    assert {each.role for each in COMMANDS.values() if each.effect == "write"} == {"operator", "admin"}
