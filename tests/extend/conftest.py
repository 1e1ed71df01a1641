"""Entry points as an installed package would bring them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Pretends that a package with these entry points is installed; returns the folder it is in."""
    site = tmp_path / "site"
    about = site / "shop_plugins-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-plugins\nVersion: 1.0\n")

    def put(**groups: dict[str, str]) -> Path:
        lines = []
        for group, points in groups.items():
            lines += [f"[opsq.{group}]", *(f"{name} = {path}" for name, path in points.items())]
        (about / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(str(site))
        return site

    return put
