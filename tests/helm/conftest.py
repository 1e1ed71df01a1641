"""The long part, with real Helm and running pods, belongs to ``make helm``: Helm takes minutes to build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHORT = ("test_generated.py",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what belongs to ``make helm``, elsewhere."""
    if os.environ.get("HELM") == "full":
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.name not in _SHORT:
            item.add_marker(pytest.mark.skip(reason="part of `make helm` (HELM=full)"))
