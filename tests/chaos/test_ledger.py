"""The checker finds each kind of violation when it is planted, and none where there is none."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("chaos_ledger", Path(__file__).with_name("ledger.py"))
assert _spec is not None
assert _spec.loader is not None
ledger_module = importlib.util.module_from_spec(_spec)
sys.modules["chaos_ledger"] = ledger_module
_spec.loader.exec_module(ledger_module)

CLEAN = ["C 1", "C 2", "S 1 7 1.0", "S 2 8 1.0", "D 1 7 2.0", "F kill 2.5 2.6", "S 2 9 4.0", "D 2 9 5.0"]
"""Task 2 ran when the worker was killed, and again afterwards."""


def test_a_clean_run_has_no_violation():
    assert ledger_module.Ledger.of(CLEAN).violations() == []


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ([*CLEAN, "C 3"], "lost: 3"),
        ([*CLEAN, "S 4 7 1.0", "D 4 7 1.1"], "foreign: 4"),
        ([*CLEAN, "C 5", "S 5 9 6.0", "D 5 9 6.1", "S 5 9 7.0"], "doubled: 5"),
        ([*CLEAN, "C 6", "S 6 9 6.0"], "vanished: 6"),
        ([*CLEAN, "S 2 9 5.1", "D 2 9 5.2"], "repeated: 2"),
        ([*CLEAN, "D 1"], "malformed line 'D 1'"),
    ],
)
def test_a_planted_violation_is_found(lines, word):
    found = ledger_module.Ledger.of(lines).violations()
    assert any(word in violation for violation in found), found
