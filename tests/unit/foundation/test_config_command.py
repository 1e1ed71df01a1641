"""``opsq config``: what it prints, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from opsq.cli.config import config
from opsq.cli.settings_page import manual_page
from opsq.cli.state import CliState
from opsq.errors import ConfigError, ExitCode
from opsq.settings import OPTIONS


@pytest.fixture(autouse=True)
def _quiet_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPSQ_BROKER_URL", "redis://:hunter2@host/0")


def run(*args: str) -> Result:
    return CliRunner().invoke(config, args, obj=CliState(), standalone_mode=False)


def test_show_prints_every_setting_with_secrets_starred() -> None:
    result = run("show")
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines] == list(OPTIONS)
    assert "hunter2" not in result.output
    assert any(line.endswith('"redis://:***@host/0"') for line in lines)


def test_show_origin() -> None:
    (line,) = run("show", "--origin", "broker_url").output.splitlines()
    assert line == 'broker_url  "redis://:***@host/0"  # env OPSQ_BROKER_URL'


def test_show_changed() -> None:
    (Path.cwd() / "opsq.toml").write_text("web_port = 1")
    result = run("show", "--changed", "--origin", "--json")
    assert json.loads(result.output) == {
        "broker_url": {"value": "redis://:***@host/0", "origin": "env OPSQ_BROKER_URL"},
        "web_port": {"value": 1, "origin": f"file {Path.cwd()}/opsq.toml: web_port"},
    }


def test_show_json_holds_every_value() -> None:
    assert list(json.loads(run("show", "--json").output)) == list(OPTIONS)


def test_show_of_an_unknown_name_suggests() -> None:
    result = run("show", "web_prot")
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "there is no setting web_prot; did you mean web_port?"


def test_check_of_a_good_configuration() -> None:
    result = run("check")
    assert result.return_value == ExitCode.OK
    assert result.output == (f"The configuration is good: 1 of {len(OPTIONS)} settings given, no configuration file.\n")


def test_check_tells_every_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSQ_WEB_PORT", "x")
    monkeypatch.setenv("OPSQ_WEB_PROT", "1")
    assert isinstance(run("check").exception, ConfigError)
    result = run("check", "--json")
    assert result.return_value == ExitCode.CONFIG
    assert json.loads(result.output) == {
        "ok": False,
        "notices": [],
        "faults": [
            {
                "problem": "expected web_port to be a whole number, got 'x'",
                "origin": "env OPSQ_WEB_PORT",
                "remedy": "",
            },
            {
                "problem": "unknown setting web_prot",
                "origin": "env OPSQ_WEB_PROT",
                "remedy": "did you mean OPSQ_WEB_PORT?",
            },
        ],
    }


def test_docs_writes_the_manual_page() -> None:
    assert run("docs").output == manual_page()
    run("docs", "--write", "settings.md")
    assert Path("settings.md").read_text(encoding="utf-8") == manual_page()
