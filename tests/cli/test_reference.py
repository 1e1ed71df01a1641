"""The generated pages of docs/ say what the code does today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from opsq.cli.reference import EXIT_CODES, PAGES
from opsq.errors import ExitCode

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_committed_page_is_what_the_tables_say(name: str, tmp_path: Path) -> None:
    # In a process of its own and a bare folder: defaults must not depend on where or by whom they are printed.
    program = f"from opsq.cli.reference import PAGES; print(PAGES[{name!r}](), end='')"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "docs" / name).read_text(), f"run `make docs` and commit docs/{name}"


def test_every_exit_code_is_explained() -> None:
    assert set(EXIT_CODES) == set(ExitCode)
