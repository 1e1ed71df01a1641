"""The manual page is what the table says."""

from __future__ import annotations

from pathlib import Path

from opsq.cli.settings_page import manual_page, sections
from opsq.settings import OPTIONS

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual_page(), "run: opsq config docs --write docs/settings.md"


def test_every_setting_is_on_the_page_once() -> None:
    names = [name for names in sections().values() for name in names]
    assert sorted(names) == sorted(OPTIONS)
    assert all(names for names in sections().values())
