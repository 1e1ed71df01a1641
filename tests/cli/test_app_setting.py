"""The app may be named by a setting instead of ``-A``: containers and units say it once, in the environment."""

from __future__ import annotations

from pathlib import Path

from tests.cli.runner import opsq, running

SHOP = "from opsq import Opsq\n\napp = Opsq('shop')\n"


def test_a_worker_takes_its_app_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with running("worker", "-P", "solo", cwd=tmp_path, ready="ready", OPSQ_APP="shop"):
        pass


def test_a_configuration_file_names_it_too(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "opsq.toml").write_text('app = "shop"\n')
    with running("up", "-P", "solo", "--port", "0", cwd=tmp_path, ready="ready"):
        pass


def test_without_it_the_message_says_both_ways(tmp_path: Path) -> None:
    said = opsq("worker", cwd=tmp_path)
    assert said.returncode == 64
    assert "-A module:app" in said.stderr
    assert "OPSQ_APP" in said.stderr
