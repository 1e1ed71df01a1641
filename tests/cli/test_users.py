"""``opsq users``: the file it writes is the one the pages read; nothing secret is shown twice."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from click.testing import CliRunner, Result

from opsq.cli.main import cli
from opsq.web.access import accounts
from opsq.web.access.passwords import hash_token, password_fits


def run(folder: Path, *words: str, input: str | None = None) -> Result:
    """Run ``opsq users`` on a data folder of its own."""
    return CliRunner().invoke(cli, ["--data-dir", str(folder), "users", *words], input=input, standalone_mode=False)


def test_a_user_comes_and_goes(tmp_path: Path) -> None:
    done = run(tmp_path, "add", "anna", "--role", "operator", "--password-stdin", input="long enough password\n")
    assert done.exception is None, done.output
    file = tmp_path / "users.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = accounts.read(file).users["anna"]
    assert kept.role == "operator"
    assert password_fits("long enough password", kept.password)
    listed = json.loads(run(tmp_path, "list", "--json").output)
    assert [(row["name"], row["kind"], row["role"]) for row in listed["accounts"]] == [("anna", "user", "operator")]
    assert "scrypt" not in run(tmp_path, "list").output
    assert run(tmp_path, "remove", "anna").exception is None
    assert accounts.read(file).users == {}
    assert "no user and no token 'anna'" in str(run(tmp_path, "remove", "anna").exception)


def test_a_token_is_shown_once(tmp_path: Path) -> None:
    words = ("token", "prometheus", "--scope", "metrics", "--days", "30", "--json")
    made = json.loads(run(tmp_path, *words).output)
    kept = accounts.read(tmp_path / "users.json").tokens["prometheus"]
    assert kept.hash == hash_token(made["token"])
    assert kept.grants() == {"metrics"}
    assert kept.expires_at is not None
    assert kept.expires_at.isoformat() == made["expires_at"]
    assert made["token"] not in run(tmp_path, "list").output


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    short = run(tmp_path, "add", "anna", "--password-stdin", input="short\n")
    assert "at least 10 are needed" in str(short.exception)
    assert "is no name" in str(
        run(tmp_path, "add", "a/b", "--password-stdin", input="long enough password\n").exception
    )
    assert "opsq users add" in run(tmp_path, "list").output
    assert not (tmp_path / "users.json").exists()
